// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import com.fasterxml.jackson.annotation.JsonFormat;
import com.fasterxml.jackson.core.Base64Variant;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.util.JsonGeneratorDelegate;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonMappingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializationFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.datatype.jdk8.Jdk8Module;
import com.fasterxml.jackson.datatype.jsr310.JavaTimeModule;
import java.io.IOException;
import java.io.InputStream;
import java.math.BigDecimal;

/**
 * The JSON rules that all clients share (docs/json.md): NaN and infinities are refused, 64-bit integers are exact, times are RFC
 * 3339, a UUID and a BigDecimal are text, and bytes are refused inside JSON, as they travel as a whole payload only.
 */
public final class Json {
  private Json() {}

  /** A mapper that keeps the rules, to build upon with modules of your own. */
  public static ObjectMapper mapper() {
    JsonFactory factory = JsonFactory.builder().addDecorator((owner, generator) -> new Strict(generator)).build();
    ObjectMapper mapper =
        JsonMapper.builder(factory)
            .addModule(new JavaTimeModule())
            .addModule(new Jdk8Module())
            .disable(SerializationFeature.WRITE_DATES_AS_TIMESTAMPS)
            .disable(SerializationFeature.WRITE_DURATIONS_AS_TIMESTAMPS)
            .disable(SerializationFeature.FAIL_ON_EMPTY_BEANS)
            .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
            .disable(DeserializationFeature.ADJUST_DATES_TO_CONTEXT_TIME_ZONE)
            .build();
    mapper.configOverride(BigDecimal.class).setFormat(JsonFormat.Value.forShape(JsonFormat.Shape.STRING));
    return mapper;
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
