# SPDX-License-Identifier: Apache-2.0
# Writes the bytes of INPUT as a C array to OUTPUT.
file(READ ${INPUT} bytes HEX)
string(LENGTH "${bytes}" digits)
math(EXPR count "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," array "${bytes}")
file(WRITE ${OUTPUT} "#include <stddef.h>\nextern const unsigned char millrace_descriptor_set[];\nextern const size_t millrace_descriptor_set_bytes;\nconst unsigned char millrace_descriptor_set[] = {${array}};\nconst size_t millrace_descriptor_set_bytes = ${count};\n")
