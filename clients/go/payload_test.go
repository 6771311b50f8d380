// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

type inner struct {
	Value float64 `json:"value"`
	Blob  []byte  `json:"blob,omitempty"`
}

type custom struct{ number float64 }

func (c custom) MarshalJSON() ([]byte, error) { return []byte(`"mine"`), nil }

func TestNewPayloadEncodes(t *testing.T) {
	moment := time.Date(2026, 3, 1, 12, 0, 0, 250_000_000, time.FixedZone("", 3600))
	for name, test := range map[string]struct {
		value any
		want  Payload
	}{
		"nothing":         {nil, Payload{}},
		"struct":          {inner{Value: 1.5}, Payload{JSON: []byte(`{"value":1.5}`)}},
		"64 bits":         {[]any{int64(math.MaxInt64), uint64(math.MaxUint64)}, Payload{JSON: []byte(`[9223372036854775807,18446744073709551615]`)}},
		"big in 64 bits":  {big.NewInt(7), Payload{JSON: []byte("7")}},
		"number":          {[]json.Number{"18446744073709551615", "1e300"}, Payload{JSON: []byte("[18446744073709551615,1e300]")}},
		"html stays":      {"<a&b>", Payload{JSON: []byte(`"<a&b>"`)}},
		"replacement":     {"\uFFFD", Payload{JSON: []byte("\"\uFFFD\"")}},
		"backslash":       {`\ufffd`, Payload{JSON: []byte(`"\\ufffd"`)}},
		"time":            {moment, Payload{JSON: []byte(`"2026-03-01T12:00:00.25+01:00"`)}},
		"raw":             {json.RawMessage(`{"b":1, "a":2}`), Payload{JSON: []byte(`{"b":1, "a":2}`)}},
		"data":            {[]byte{0, 1}, Payload{Data: []byte{0, 1}}},
		"no bytes":        {[]byte(nil), Payload{Data: []byte{}}},
		"own marshaler":   {map[string]custom{"x": {math.NaN()}}, Payload{JSON: []byte(`{"x":"mine"}`)}},
		"omitted":         {inner{Value: 1, Blob: nil}, Payload{JSON: []byte(`{"value":1}`)}},
		"call":            {Call{Args: []any{1}}, Payload{ContentType: ContentTypeCall, JSON: []byte(`{"args":[1],"kwargs":{}}`)}},
		"payload itself":  {Payload{ContentType: "text/plain", Data: []byte("x")}, Payload{ContentType: "text/plain", Data: []byte("x")}},
		"bytes as number": {[2]byte{1, 2}, Payload{JSON: []byte(`[1,2]`)}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := NewPayload(test.value)
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Fatalf("got %q %q %q (%v)", got.ContentType, got.JSON, got.Data, err)
			}
		})
	}
}

func TestNewPayloadRefusesAndNamesThePath(t *testing.T) {
	type deep struct {
		List []map[string]any `json:"list"`
	}
	cycle := map[string]any{}
	cycle["self"] = cycle
	for name, test := range map[string]struct {
		value any
		field string
	}{
		"nan":           {math.NaN(), "payload"},
		"infinity":      {deep{[]map[string]any{{}, {"x": math.Inf(-1)}}}, "payload.list[1].x"},
		"bytes":         {map[string]any{"a": inner{Blob: []byte("x")}}, "payload.a.blob"},
		"bytes in list": {[][]byte{{1}}, "payload[0]"},
		"duration":      {struct{ D time.Duration }{time.Second}, "payload.D"},
		"beyond 64":     {map[string]any{"n": new(big.Int).Lsh(big.NewInt(1), 64)}, "payload.n"},
		"number beyond": {[]json.Number{"1", "18446744073709551616"}, "payload[1]"},
		"keys":          {map[string]any{"m": map[int]string{1: "x"}}, "payload.m"},
		"not utf-8":     {map[string]string{"a": "\xff"}, "payload.a"},
		"channel":       {struct{ C chan int }{make(chan int)}, "payload.C"},
		"raw":           {json.RawMessage(`{"a":`), "payload.json"},
		"both":          {Payload{JSON: []byte("1"), Data: []byte("1")}, "payload"},
		"cycle":         {cycle, "payload"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewPayload(test.value)
			var detail *Error
			if !errors.Is(err, ErrInvalidArgument) || !errors.As(err, &detail) || detail.Field != test.field {
				t.Fatalf("the error is %v", err)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	var exact struct{ N int64 }
	if err := (Payload{JSON: []byte(`{"n": 9223372036854775807}`)}).Decode(&exact); err != nil || exact.N != math.MaxInt64 {
		t.Fatalf("%+v (%v)", exact, err)
	}
	var loose map[string]any
	if err := (Payload{JSON: []byte(`{"n": 18446744073709551615}`)}).Decode(&loose); err != nil || loose["n"] != json.Number("18446744073709551615") {
		t.Fatalf("%+v (%v)", loose, err)
	}
	var bytes []byte
	if err := (Payload{Data: []byte{7}}).Decode(&bytes); err != nil || len(bytes) != 1 {
		t.Fatalf("%v (%v)", bytes, err)
	}
	err := (Payload{JSON: []byte(`{"n": "text"}`)}).Decode(&exact)
	var detail *Error
	if !errors.As(err, &detail) || !strings.HasPrefix(detail.Field, "payload.") {
		t.Fatalf("the error is %v", err)
	}
	if err := (Payload{Data: []byte{7}}).Decode(&exact); !errors.Is(err, ErrInvalidArgument) {
		t.Fatalf("the error is %v", err)
	}
	if err := (Payload{JSON: []byte(`1 2`)}).Decode(new(int)); !errors.Is(err, ErrInvalidArgument) {
		t.Fatalf("the error is %v", err)
	}
}

func TestCallsMeetEveryHandler(t *testing.T) {
	call := func(text string) Payload { return Payload{ContentType: ContentTypeCall, JSON: []byte(text)} }
	var both Call
	if err := call(`{"args":[1],"kwargs":{"a":2}}`).Decode(&both); err != nil || len(both.Args) != 1 || len(both.Kwargs) != 1 {
		t.Fatalf("%+v (%v)", both, err)
	}
	var named inner
	if err := call(`{"args":[ ],"kwargs":{"value":2}}`).Decode(&named); err != nil || named.Value != 2 {
		t.Fatalf("%+v (%v)", named, err)
	}
	var placed []int
	if err := call(`{"args":[1,2],"kwargs":{}}`).Decode(&placed); err != nil || len(placed) != 2 {
		t.Fatalf("%+v (%v)", placed, err)
	}
	var lists [][]int
	if err := call(`{"args":[[]]}`).Decode(&lists); err != nil || len(lists) != 1 {
		t.Fatalf("%+v (%v)", lists, err)
	}
	var values []inner
	if err := call(`{"args":[{}],"kwargs":{}}`).Decode(&values); err != nil || len(values) != 1 {
		t.Fatalf("%+v (%v)", values, err)
	}
	if err := call(`{"args":[{}],"kwargs":{"value":2}}`).Decode(&named); !errors.Is(err, ErrInvalidArgument) {
		t.Fatalf("the error is %v", err)
	}
	for _, text := range []string{`{}`, `{"args":[],"kwargs":{}}`, `{"args":null,"kwargs":null}`} {
		if err := call(text).Decode(&values); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	if err := call(`{"args":[1],"kwargs":{"value":2}}`).Decode(&named); !errors.Is(err, ErrInvalidArgument) {
		t.Fatalf("the error is %v", err)
	}
	for text, want := range map[string]Call{
		`[1]`: {Args: []any{json.Number("1")}}, `{"a":"b"}`: {Kwargs: map[string]any{"a": "b"}}, `"x"`: {Args: []any{"x"}},
	} {
		var plain Call
		if err := (Payload{JSON: []byte(text)}).Decode(&plain); err != nil || !reflect.DeepEqual(plain, want) {
			t.Fatalf("%s is %+v (%v)", text, plain, err)
		}
	}
}

func TestRoutes(t *testing.T) {
	for pattern, cases := range map[string]map[string]bool{
		"fraud_*": {"fraud_check": true, "fraud_": true, "fraud": false, "my_fraud_check": false},
		"a*b*c":   {"abc": true, "a/x/b/y/c": true, "ac": false, "abcd": false},
		"*":       {"": true, "x": true},
		"exact":   {"exact": true, "exactly": false},
		"ab*ba":   {"aba": false, "abba": true},
	} {
		for task, want := range cases {
			if got := matches(pattern, task); got != want {
				t.Errorf("%q matches %q: %v", pattern, task, got)
			}
		}
	}
}
