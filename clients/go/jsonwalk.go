// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// encoding/json turns bytes into base64 text and durations into nanoseconds without a word, and does not say where a NaN is. These
// walks find the path of a value that must not be sent, by the table in docs/json.md. The first, before each encoding, enters only
// types that can hold what the encoder would take; the second runs only when the encoder has failed.

var (
	marshalerType     = reflect.TypeFor[json.Marshaler]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
	durationType      = reflect.TypeFor[time.Duration]()
	numberType        = reflect.TypeFor[json.Number]()
	bigIntType        = reflect.TypeFor[*big.Int]()
	suspects          sync.Map // reflect.Type → bool
)

// encodesItself: what such a type writes is its own choice.
func encodesItself(t reflect.Type) bool {
	return t.Implements(marshalerType) || t.Implements(textMarshalerType)
}

// isSuspect: a value of this type may hold something that is refused although encoding/json would take it.
func isSuspect(t reflect.Type) bool {
	if known, ok := suspects.Load(t); ok {
		return known.(bool)
	}
	result := canHoldRefused(t, map[reflect.Type]bool{})
	suspects.Store(t, result)
	return result
}

func canHoldRefused(t reflect.Type, seen map[reflect.Type]bool) bool {
	if t == durationType || t == numberType || t == bigIntType {
		return true
	}
	if seen[t] || encodesItself(t) {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Slice:
		return isBytes(t) || canHoldRefused(t.Elem(), seen)
	case reflect.Map:
		return !isText(t.Key()) || canHoldRefused(t.Elem(), seen)
	case reflect.Array, reflect.Pointer:
		return canHoldRefused(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if canHoldRefused(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

// isText: as a key of an object.
func isText(t reflect.Type) bool {
	return t.Kind() == reflect.String || t.Implements(textMarshalerType)
}

// isBytes: encoding/json would write it as base64.
func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && !encodesItself(t.Elem()) &&
		!reflect.PointerTo(t.Elem()).Implements(marshalerType)
}

func refuse(v any) error {
	value := reflect.ValueOf(v)
	if !value.IsValid() || !isSuspect(value.Type()) {
		return nil
	}
	walker := walk{check: func(value reflect.Value) string {
		switch {
		case isBytes(value.Type()):
			return "bytes inside JSON have no agreed form: send them as the whole payload, or as text (base64) of your own"
		case value.Kind() == reflect.Map && !isText(value.Type().Key()):
			return "the keys of an object are text"
		}
		return ""
	}}
	return walker.run(value)
}

// refusedAsSuch is about types that would encode themselves.
func refusedAsSuch(value reflect.Value) string {
	const range64 = "a whole number beyond 64 bits: send it as text"
	switch value.Type() {
	case durationType:
		return "a duration has no agreed form: send a number, and say in which unit"
	case bigIntType:
		if number := value.Interface().(*big.Int); number != nil && !number.IsInt64() && !number.IsUint64() {
			return range64
		}
	case numberType:
		text := value.String()
		if number, whole := new(big.Int).SetString(text, 10); whole && !number.IsInt64() && !number.IsUint64() {
			return range64
		}
	}
	return ""
}

func findUnencodable(v any) error {
	walker := walk{check: func(value reflect.Value) string {
		switch value.Kind() {
		case reflect.Float32, reflect.Float64:
			if number := value.Float(); math.IsNaN(number) || math.IsInf(number, 0) {
				return fmt.Sprintf("JSON has no %v", number)
			}
		case reflect.String:
			if !utf8.ValidString(value.String()) {
				return "text that is not UTF-8"
			}
		case reflect.Chan, reflect.Func, reflect.Complex64, reflect.Complex128:
			return fmt.Sprintf("JSON has no form for a %s", value.Type())
		}
		return ""
	}}
	return walker.run(reflect.ValueOf(v))
}

// walk goes through what encoding/json would write. check says what is wrong with a value, or "".
type walk struct {
	check func(reflect.Value) string
	depth int
}

// Cyclic values end here; encoding/json refuses them by itself.
const walkDepthMax = 1000

func (w *walk) run(value reflect.Value) error {
	if fault, path := w.visit(value); fault != "" {
		path = "payload" + path
		return invalid(path, "%s: %s", path, fault)
	}
	return nil
}

// visit returns what is wrong and where, from here on; the path is put together only on the way back.
func (w *walk) visit(value reflect.Value) (fault, where string) {
	if !value.IsValid() || w.depth > walkDepthMax {
		return "", ""
	}
	if fault := refusedAsSuch(value); fault != "" || encodesItself(value.Type()) {
		return fault, ""
	}
	if fault := w.check(value); fault != "" {
		return fault, ""
	}
	w.depth++
	defer func() { w.depth-- }()
	switch value.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !value.IsNil() {
			return w.visit(value.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range value.Len() {
			if fault, where := w.visit(value.Index(i)); fault != "" {
				return fault, fmt.Sprintf("[%d]%s", i, where)
			}
		}
	case reflect.Map:
		for iterator := value.MapRange(); iterator.Next(); {
			for _, part := range [...]reflect.Value{iterator.Key(), iterator.Value()} {
				if fault, where := w.visit(part); fault != "" {
					return fault, fmt.Sprintf(".%v%s", iterator.Key(), where)
				}
			}
		}
	case reflect.Struct:
		return w.visitFields(value)
	}
	return "", ""
}

func (w *walk) visitFields(value reflect.Value) (fault, where string) {
	for i := range value.NumField() {
		field := value.Type().Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-" && options == "", !field.IsExported() && !field.Anonymous:
			continue
		case strings.Contains(options, "omitempty") && value.Field(i).IsZero():
			continue
		case name == "" && !field.Anonymous:
			name = field.Name
		}
		if fault, where := w.visit(value.Field(i)); fault != "" {
			if name != "" {
				where = "." + name + where
			}
			return fault, where
		}
	}
	return "", ""
}
