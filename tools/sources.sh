#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lists our own C files (.c and .h; with an argument only those that end so), one per line.
cd "$(dirname "$0")/.." || exit 1
find service store clients/c tests -name "*.${1:-[ch]}" -type f | sort
