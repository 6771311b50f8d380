// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import io.grpc.ChannelCredentials;
import io.grpc.TlsChannelCredentials;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.InvalidKeySpecException;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.Collection;
import java.util.List;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** TLS for both ways to the server, gRPC and WebSocket, from PEM files. */
final class Tls {
  private static final char[] NO_PASSWORD = {};

  private final Path ca;
  private final Path certificate;
  private final Path key;

  /**
   * What to trust and who to be.
   *
   * @param ca certificates to trust; null: those that Java trusts
   * @param certificate the client's own chain, for mutual TLS; null: none
   * @param key its key, PKCS #8
   */
  Tls(Path ca, Path certificate, Path key) {
    this.ca = ca;
    this.certificate = certificate;
    this.key = key;
  }

  ChannelCredentials channelCredentials() {
    try {
      TlsChannelCredentials.Builder credentials = TlsChannelCredentials.newBuilder();
      if (ca != null) {
        credentials.trustManager(ca.toFile());
      }
      if (certificate != null) {
        credentials.keyManager(certificate.toFile(), key.toFile());
      }
      return credentials.build();
    } catch (IOException failure) {
      throw unreadable(failure);
    }
  }

  SSLContext context() {
    try {
      SSLContext context = SSLContext.getInstance("TLS");
      TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
      trust.init(ca == null ? null : trusted());
      KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
      keys.init(certificate == null ? null : own(), NO_PASSWORD);
      context.init(certificate == null ? null : keys.getKeyManagers(), trust.getTrustManagers(), null);
      return context;
    } catch (IOException | GeneralSecurityException failure) {
      throw unreadable(failure);
    }
  }

  private KeyStore trusted() throws IOException, GeneralSecurityException {
    KeyStore store = emptyStore();
    int number = 0;
    for (Certificate one : certificates(ca)) {
      store.setCertificateEntry("ca" + number++, one);
    }
    return store;
  }

  private KeyStore own() throws IOException, GeneralSecurityException {
    KeyStore store = emptyStore();
    store.setKeyEntry("client", privateKey(), NO_PASSWORD, certificates(certificate).toArray(new Certificate[0]));
    return store;
  }

  private static KeyStore emptyStore() throws IOException, GeneralSecurityException {
    KeyStore store = KeyStore.getInstance("PKCS12");
    store.load(null, null);
    return store;
  }

  private static Collection<? extends Certificate> certificates(Path file) throws IOException, GeneralSecurityException {
    try (InputStream in = Files.newInputStream(file)) {
      return CertificateFactory.getInstance("X.509").generateCertificates(in);
    }
  }

  private PrivateKey privateKey() throws IOException, GeneralSecurityException {
    String pem = Files.readString(key);
    String body = pem.replaceAll("(?s).*-----BEGIN PRIVATE KEY-----(.*)-----END PRIVATE KEY-----.*", "$1").replaceAll("\\s", "");
    PKCS8EncodedKeySpec encoded;
    try {
      encoded = new PKCS8EncodedKeySpec(Base64.getDecoder().decode(body));
    } catch (IllegalArgumentException failure) {
      throw new InvalidKeySpecException(key + " is no PEM file with a PKCS #8 key (BEGIN PRIVATE KEY)", failure);
    }
    InvalidKeySpecException last = null;
    for (String algorithm : List.of("RSA", "EC", "EdDSA")) { // the encoding does not tell which one it is
      try {
        return KeyFactory.getInstance(algorithm).generatePrivate(encoded);
      } catch (InvalidKeySpecException another) {
        last = another;
      }
    }
    throw new InvalidKeySpecException(key + " is neither an RSA nor an elliptic curve key", last);
  }

  private static InvalidArgumentException unreadable(Exception failure) {
    return Errors.invalid("tls", "the TLS files can't be used: " + failure.getMessage());
  }
}
