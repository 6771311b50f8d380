// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import com.fasterxml.jackson.annotation.JsonFormat;
import com.fasterxml.jackson.core.Base64Variant;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.StreamWriteConstraints;
import com.fasterxml.jackson.core.util.JsonGeneratorDelegate;
import com.fasterxml.jackson.databind.BeanDescription;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JavaType;
import com.fasterxml.jackson.databind.JsonMappingException;
import com.fasterxml.jackson.databind.JsonSerializer;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationConfig;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.SerializerProvider;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.module.SimpleModule;
import com.fasterxml.jackson.databind.ser.Serializers;
import com.fasterxml.jackson.datatype.jdk8.Jdk8Module;
import com.fasterxml.jackson.datatype.jsr310.JavaTimeModule;
import java.io.IOException;
import java.io.InputStream;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Duration;
import java.time.LocalDateTime;

/**
 * The JSON rules that all clients share (docs/json.md). Integers are exact and have 64 bits; NaN and infinities are refused. A time
 * with an offset is RFC 3339, a date, a UUID and a BigDecimal are text. A time without an offset and a Duration are refused, as they
 * mean different things in different places, and so are bytes inside JSON: they travel as a whole payload. Depth is 64 at most.
 */
public final class Json {
  private static final BigInteger MIN = BigInteger.valueOf(Long.MIN_VALUE);
  private static final BigInteger MAX = BigInteger.ONE.shiftLeft(Long.SIZE).subtract(BigInteger.ONE);
  private static final int DEPTH_MAX = 64;

  private Json() {}

  /** A mapper that keeps the rules, to build upon with modules of your own. */
  public static ObjectMapper mapper() {
    JsonFactory factory =
        JsonFactory.builder()
            .addDecorator((owner, generator) -> new Strict(generator))
            .streamWriteConstraints(StreamWriteConstraints.builder().maxNestingDepth(DEPTH_MAX).build())
            .build();
    ObjectMapper mapper =
        JsonMapper.builder(factory)
            .addModule(new JavaTimeModule())
            .addModule(new Jdk8Module())
            .addModule(
                new TextKeys()
                    .addSerializer(LocalDateTime.class, new Refusing<>("a time without an offset: use Instant or OffsetDateTime"))
                    .addSerializer(Duration.class, new Refusing<>("a Duration: say it as a number, of seconds or whatever you agree on")))
            .disable(SerializationFeature.WRITE_DATES_AS_TIMESTAMPS)
            .disable(SerializationFeature.FAIL_ON_EMPTY_BEANS)
            .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .disable(DeserializationFeature.ADJUST_DATES_TO_CONTEXT_TIME_ZONE)
            .build();
    mapper.configOverride(BigDecimal.class).setFormat(JsonFormat.Value.forShape(JsonFormat.Shape.STRING));
    return mapper;
  }

  /** Keys are text, so 1 and "1" can't be mixed up. */
  private static final class TextKeys extends SimpleModule {
    private static final long serialVersionUID = 1L;

    @Override
    public void setupModule(SetupContext context) {
      super.setupModule(context);
      context.addKeySerializers(
          new Serializers.Base() {
            @Override
            public JsonSerializer<?> findSerializer(SerializationConfig config, JavaType type, BeanDescription description) {
              boolean isText = type.isTypeOrSubTypeOf(CharSequence.class) || type.isEnumType() || type.isJavaLangObject();
              return isText ? null : new Refusing<>("a key of " + type.getRawClass().getName() + ": keys are text");
            }
          });
    }
  }

  /** Refuses a type. */
  private static final class Refusing<T> extends JsonSerializer<T> {
    private final String why;

    Refusing(String why) {
      this.why = why;
    }

    @Override
    public void serialize(T value, JsonGenerator generator, SerializerProvider provider) throws IOException {
      throw JsonMappingException.from(generator, why);
    }
  }

  /** Refuses what JSON can't carry in every language. */
  private static final class Strict extends JsonGeneratorDelegate {
    Strict(JsonGenerator generator) {
      super(generator, false);
    }

    private void check(double value) throws IOException {
      if (!Double.isFinite(value)) {
        throw JsonMappingException.from(this, value + " is not a JSON number");
      }
    }

    @Override
    public void writeNumber(double value) throws IOException {
      check(value);
      super.writeNumber(value);
    }

    @Override
    public void writeNumber(float value) throws IOException {
      check(value);
      super.writeNumber(value);
    }

    @Override
    public void writeNumber(BigInteger value) throws IOException {
      if (value.compareTo(MIN) < 0 || value.compareTo(MAX) > 0) {
        throw JsonMappingException.from(this, value + " has more than 64 bits: write it as text");
      }
      super.writeNumber(value);
    }

    @Override
    public void writeArray(double[] array, int offset, int length) throws IOException {
      for (int i = offset; i < offset + length; i++) {
        check(array[i]);
      }
      super.writeArray(array, offset, length);
    }

    @Override
    public void writeBinary(Base64Variant variant, byte[] data, int offset, int length) throws IOException {
      throw bytesRefused();
    }

    @Override
    public int writeBinary(Base64Variant variant, InputStream data, int length) throws IOException {
      throw bytesRefused();
    }

    private JsonMappingException bytesRefused() {
      return JsonMappingException.from(this, "bytes can't be part of JSON: make them the whole payload, or encode them as text");
    }
  }
}
