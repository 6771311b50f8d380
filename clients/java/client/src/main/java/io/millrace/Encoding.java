// SPDX-License-Identifier: Apache-2.0
package io.millrace;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonMappingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Values to payloads and back: JSON by the rules, then the codec. */
final class Encoding {
  private final ObjectMapper mapper;
  private final Codec codec;

  /** A value that can't be encoded; the message says why. */
  static final class Refused extends Exception {
    private static final long serialVersionUID = 1L;

    private final String path;

    Refused(String path, String message, Throwable cause) {
      super(path.isEmpty() ? message : path + ": " + message, cause);
      this.path = path;
    }

    /** Where it is within the value: empty, or something like {@code .lines[3].price}. */
    String path() {
      return path;
    }
  }

  Encoding(ObjectMapper mapper, Codec codec) {
    this.mapper = mapper;
    this.codec = codec;
  }

  /** Null is the empty payload. */
  Payload encode(Object value) throws Refused {
    Payload plain = plain(value);
    if (codec == null || plain.isEmpty()) {
      return plain;
    }
    try {
      return codec.encode(plain);
    } catch (RuntimeException failure) {
      throw new Refused("", "the codec failed: " + failure.getMessage(), failure);
    }
  }

  private Payload plain(Object value) throws Refused {
    if (value == null) {
      return Payload.empty();
    }
    if (value instanceof Payload payload) {
      return payload;
    }
    if (value instanceof byte[] bytes) {
      return Payload.data(bytes);
    }
    if (value instanceof JobSpec.Call call) {
      return Payload.json(write(Map.of("args", call.args(), "kwargs", call.kwargs())), Payload.CALL);
    }
    return Payload.json(write(value));
  }

  private String write(Object value) throws Refused {
    String text;
    try {
      text = mapper.writeValueAsString(value);
    } catch (JsonMappingException failure) {
      throw new Refused(path(failure.getPath()), failure.getOriginalMessage(), failure);
    } catch (JsonProcessingException failure) {
      throw new Refused("", failure.getOriginalMessage(), failure);
    } catch (StackOverflowError endless) {
      throw new Refused("", "the value contains itself, or is nested too deeply", endless);
    }
    if (!StandardCharsets.UTF_8.newEncoder().canEncode(text)) {
      throw new Refused("", "a text in it is not valid Unicode", null);
    }
    return text;
  }

  private static String path(List<JsonMappingException.Reference> references) {
    StringBuilder path = new StringBuilder();
    for (JsonMappingException.Reference reference : references) {
      if (reference.getFieldName() != null) {
        path.append('.').append(reference.getFieldName());
      } else {
        path.append('[').append(reference.getIndex()).append(']');
      }
    }
    return path.toString();
  }

  /** What the producer gave, before JSON is parsed. */
  Payload decode(Payload stored) {
    return codec == null || stored.isEmpty() ? stored : codec.decode(stored);
  }

  /** Parses JSON, or hands out bytes. An empty payload is null. */
  <T> T read(Payload plain, Class<T> type) {
    if (plain.isEmpty()) {
      return null;
    }
    if (!plain.isJson()) {
      Object data = plain.data().orElseThrow();
      if (!type.isInstance(data)) {
        throw Errors.invalid("payload", "the payload is bytes and can't be read as " + type.getSimpleName());
      }
      return type.cast(data);
    }
    try {
      return mapper.readValue(plain.rawJson(), type);
    } catch (JsonProcessingException failure) {
      throw Errors.invalid("payload", "the payload can't be read as " + type.getName() + ": " + failure.getOriginalMessage());
    }
  }

  /** Positional arguments: of an array, or of both kinds at once. */
  List<Object> args(Payload plain) {
    JsonNode node = tree(plain);
    JsonNode array = plain.contentType().equals(Payload.CALL) ? node.path("args") : node;
    return array.isArray()
        ? mapper.convertValue(array, mapper.getTypeFactory().constructCollectionType(ArrayList.class, Object.class))
        : List.of();
  }

  /** Keyword arguments: of an object, or of both kinds at once. */
  Map<String, Object> kwargs(Payload plain) {
    JsonNode node = tree(plain);
    JsonNode object = plain.contentType().equals(Payload.CALL) ? node.path("kwargs") : node;
    return object.isObject()
        ? mapper.convertValue(object, mapper.getTypeFactory().constructMapType(LinkedHashMap.class, String.class, Object.class))
        : Map.of();
  }

  private JsonNode tree(Payload plain) {
    JsonNode node = plain.isJson() ? read(plain, JsonNode.class) : null;
    return node == null ? mapper.missingNode() : node;
  }
}
