// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"

	pb "github.com/millrace/millrace/clients/go/millracepb"
)

// Media types of payloads and results.
const (
	// ContentTypeJSON is the default of JSON.
	ContentTypeJSON = "application/json"
	// ContentTypeCall is JSON with positional and keyword arguments: see Call.
	ContentTypeCall = "application/vnd.millrace.call+json"
	// ContentTypeData is the default of bytes.
	ContentTypeData = "application/octet-stream"
)

const (
	payloadBytesMax = 2 << 20
	resultBytesMax  = 1 << 20
)

// Payload is what is handed to a handler, or what it returned: JSON text or bytes. The zero value is the empty payload.
type Payload struct {
	// ContentType is the media type; "" is the default of JSON or Data, whichever is set.
	ContentType string
	// JSON is JSON text, kept byte for byte.
	JSON []byte
	// Data is any bytes. At most one of JSON and Data is set.
	Data []byte
}

// Call is a payload with positional and keyword arguments at once, for handlers of languages that have both. Where only one kind
// is wanted, a slice is positional arguments and a struct or map is keyword arguments.
type Call struct {
	Args   []any          `json:"args"`
	Kwargs map[string]any `json:"kwargs"`
}

// Codec transforms payloads and results on their way out and in: encryption, compression. It sees what the JSON encoder made and
// returns what is stored; Decode must leave alone what Encode did not make (tell it by ContentType), so that a codec can be
// introduced while jobs wait.
type Codec interface {
	Encode(Payload) (Payload, error)
	Decode(Payload) (Payload, error)
}

// IsEmpty reports whether there is no content.
func (p Payload) IsEmpty() bool { return p.JSON == nil && p.Data == nil }

// Decode stores the content in v, which is a pointer. Numbers that go into an `any` become json.Number, so that integers of 64
// bits stay exact. Into a *[]byte go the bytes of Data, or the JSON text itself; into a *Call also a plain array or object.
func (p Payload) Decode(v any) error {
	switch v := v.(type) {
	case *Payload:
		*v = p
		return nil
	case *[]byte:
		*v = p.Data
		if p.Data == nil {
			*v = p.JSON
		}
		return nil
	case *Call:
		return p.decodeCall(v)
	}
	if p.Data != nil {
		return invalid("payload", "the payload is %d bytes of %s, not JSON: decode it into a *[]byte", len(p.Data), p.mediaType())
	}
	if p.JSON == nil {
		return nil
	}
	if p.ContentType == ContentTypeCall {
		return p.decodeOneKind(v)
	}
	return decodeJSON(p.JSON, v)
}

// decodeOneKind lets a handler that knows one kind of arguments take a Call that has no others.
func (p Payload) decodeOneKind(v any) error {
	var text struct{ Args, Kwargs json.RawMessage }
	var call struct {
		Args   []json.RawMessage
		Kwargs map[string]json.RawMessage
	}
	if err := decodeJSON(p.JSON, &call); err != nil {
		return err
	}
	if err := decodeJSON(p.JSON, &text); err != nil {
		return err
	}
	switch {
	case len(call.Args) > 0 && len(call.Kwargs) > 0:
		return invalid("payload", "the payload has positional and keyword arguments: decode it into a *millrace.Call")
	case len(call.Args) > 0:
		return decodeJSON(text.Args, v)
	case len(call.Kwargs) > 0:
		return decodeJSON(text.Kwargs, v)
	}
	return nil
}

func (p Payload) decodeCall(call *Call) error {
	*call = Call{}
	text := bytes.TrimLeft(p.JSON, " \t\r\n")
	switch {
	case p.Data != nil:
		return invalid("payload", "the payload is %d bytes of %s, not arguments", len(p.Data), p.mediaType())
	case len(text) == 0:
		return nil
	case p.ContentType == ContentTypeCall:
		type plain Call
		return decodeJSON(text, (*plain)(call))
	case text[0] == '[':
		return decodeJSON(text, &call.Args)
	case text[0] == '{':
		return decodeJSON(text, &call.Kwargs)
	}
	var only any
	if err := decodeJSON(text, &only); err != nil {
		return err
	}
	call.Args = []any{only}
	return nil
}

func (p Payload) mediaType() string {
	switch {
	case p.ContentType != "":
		return p.ContentType
	case p.Data != nil:
		return ContentTypeData
	}
	return ContentTypeJSON
}

func (p Payload) size() int { return len(p.JSON) + len(p.Data) }

func (p Payload) proto() *pb.Payload {
	result := &pb.Payload{ContentType: p.ContentType}
	switch {
	case p.JSON != nil:
		result.Content = &pb.Payload_Json{Json: string(p.JSON)}
	case p.Data != nil:
		result.Content = &pb.Payload_Data{Data: p.Data}
	case p.ContentType == "":
		return nil
	}
	return result
}

func payloadOf(message *pb.Payload) Payload {
	result := Payload{ContentType: message.GetContentType()}
	switch content := message.GetContent().(type) {
	case *pb.Payload_Json:
		result.JSON = []byte(content.Json)
	case *pb.Payload_Data:
		result.Data = content.Data
		if result.Data == nil {
			result.Data = []byte{}
		}
	}
	return result
}

// NewPayload encodes a value by the rules that all Millrace clients share (docs/json.md): nil is the empty payload, a []byte is
// data, json.RawMessage is JSON as it is, a Call has both kinds of arguments, a Payload is itself, and everything else goes through
// encoding/json. Refused, naming the path: NaN and infinities, bytes inside JSON, durations, whole numbers beyond 64 bits, keys that
// are no text, text that is not UTF-8.
func NewPayload(v any) (Payload, error) {
	switch v := v.(type) {
	case nil:
		return Payload{}, nil
	case Payload:
		return v, checkPayload(v)
	case []byte:
		if v == nil {
			v = []byte{}
		}
		return Payload{Data: v}, nil
	case json.RawMessage:
		p := Payload{JSON: v}
		return p, checkPayload(p)
	case Call:
		if v.Args == nil {
			v.Args = []any{}
		}
		if v.Kwargs == nil {
			v.Kwargs = map[string]any{}
		}
		text, err := encodeJSON(v)
		return Payload{ContentType: ContentTypeCall, JSON: text}, err
	}
	text, err := encodeJSON(v)
	return Payload{JSON: text}, err
}

func checkPayload(p Payload) error {
	switch {
	case p.JSON != nil && p.Data != nil:
		return invalid("payload", "a payload has JSON or data, not both")
	case p.JSON != nil && !(json.Valid(p.JSON) && utf8.Valid(p.JSON)):
		return invalid("payload.json", "the payload is not valid JSON in UTF-8")
	}
	return nil
}

func encodeJSON(v any) ([]byte, error) {
	if err := refuse(v); err != nil {
		return nil, err
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	text := bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))
	// The encoder writes � for what is not UTF-8, as an escape only then, and does not tell where a bad value stands.
	if err == nil && !bytes.Contains(text, []byte(`\ufffd`)) {
		return text, nil
	}
	if found := findUnencodable(v); found != nil {
		return nil, found
	}
	if err != nil {
		return nil, &Error{Kind: ErrInvalidArgument, Field: "payload", Message: "the payload cannot be encoded: " + err.Error(), cause: err}
	}
	return text, nil
}

func decodeJSON(text []byte, v any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(v); err != nil {
		return decodingError(err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return invalid("payload", "the payload has more after its JSON value")
	}
	return nil
}

func decodingError(err error) error {
	result := &Error{Kind: ErrInvalidArgument, Field: "payload", Message: "the payload cannot be decoded: " + err.Error(), cause: err}
	var mismatch *json.UnmarshalTypeError
	if errors.As(err, &mismatch) && mismatch.Field != "" {
		result.Field = "payload." + mismatch.Field
	}
	return result
}
