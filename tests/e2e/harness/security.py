# SPDX-License-Identifier: Apache-2.0
"""Certificates and tokens, as the tool makes them."""
import datetime
import pathlib
import ssl

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from .tools import millrace


class Certificates:
    """A folder of `millrace tls make-dev`, and what a test needs of it."""

    def __init__(self, directory, *flags):
        self.directory = pathlib.Path(directory)
        millrace(None, "tls", "make-dev", self.directory, *flags)

    def file(self, name):
        """Path of a file."""
        return self.directory / name

    def flags(self, mutual=False):
        """For millraced."""
        more = {"--tls-client-ca": self.file("ca.pem")} if mutual else {}
        return {"--tls-cert": self.file("server.pem"), "--tls-key": self.file("server.key"), **more}

    def credentials(self, client=None):
        """For grpc."""
        pair = [self.file(f"{client}{suffix}").read_bytes() for suffix in (".key", ".pem")] if client else (None, None)
        return grpc.ssl_channel_credentials(self.file("ca.pem").read_bytes(), *pair)

    def ssl_context(self, client=None):
        """For sockets."""
        context = ssl.create_default_context(cafile=self.file("ca.pem"))
        if client:
            context.load_cert_chain(self.file(f"{client}.pem"), self.file(f"{client}.key"))
        return context

    def environment(self, client=None):
        """For the tool."""
        pair = {"MILLRACE_CERTIFICATE": str(self.file(f"{client}.pem")), "MILLRACE_KEY": str(self.file(f"{client}.key"))} if client else {}
        return {"MILLRACE_CA": str(self.file("ca.pem")), **pair}

    def issue(self, name, common_name, days_from=-1, days_until=1, hosts=()):
        """A further certificate of this authority, for these host names, valid from and until so many days from now."""
        authority_key = serialization.load_pem_private_key(self.file("ca.key").read_bytes(), None)
        authority = x509.load_pem_x509_certificate(self.file("ca.pem").read_bytes())
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.datetime.utcnow()
        builder = x509.CertificateBuilder()
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        certificate = (builder
                       .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])).issuer_name(authority.subject)
                       .public_key(key.public_key()).serial_number(x509.random_serial_number())
                       .not_valid_before(now + datetime.timedelta(days=days_from))
                       .not_valid_after(now + datetime.timedelta(days=days_until))
                       .sign(authority_key, hashes.SHA256()))
        self.file(f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.file(f"{name}.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                                               serialization.NoEncryption()))


class Tokens:
    """A token file, filled by the real tool."""

    def __init__(self, directory):
        self.file = pathlib.Path(directory) / "tokens"

    def create(self, name, *roles, queues=(), certificate=None):
        """Adds a grant; returns the token."""
        flags = [f"--role={role}" for role in roles] + [f"--queue={queue}" for queue in queues]
        if certificate:
            flags.append(f"--certificate={certificate}")
        return millrace(None, "token", "create", "--name", name, "--file", self.file, *flags).out.strip()
