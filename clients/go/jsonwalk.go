// SPDX-License-Identifier: Apache-2.0

package millrace

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"unicode/utf8"
)

// encoding/json turns bytes into base64 text without a word, and does not say where a NaN is. These walks find the path of a value
// that must not be sent. The first, before each encoding, enters only types that can hold bytes; the second runs only when the
// encoder has failed.

var (
	marshalerType     = reflect.TypeFor[json.Marshaler]()
	textMarshalerType = reflect.TypeFor[encoding.TextMarshaler]()
	holdsBytesCache   sync.Map // reflect.Type → bool
)

// encodesItself: what such a type writes is its own choice.
func encodesItself(t reflect.Type) bool {
	return t.Implements(marshalerType) || t.Implements(textMarshalerType)
}

func holdsBytes(t reflect.Type) bool {
	if known, ok := holdsBytesCache.Load(t); ok {
		return known.(bool)
	}
	result := couldHoldBytes(t, map[reflect.Type]bool{})
	holdsBytesCache.Store(t, result)
	return result
}

func couldHoldBytes(t reflect.Type, seen map[reflect.Type]bool) bool {
	if seen[t] || encodesItself(t) {
		return false
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Interface:
		return true
	case reflect.Slice:
		return isBytes(t) || couldHoldBytes(t.Elem(), seen)
	case reflect.Array, reflect.Pointer, reflect.Map:
		return couldHoldBytes(t.Elem(), seen)
	case reflect.Struct:
		for i := range t.NumField() {
			if couldHoldBytes(t.Field(i).Type, seen) {
				return true
			}
		}
	}
	return false
}

// isBytes: encoding/json would write it as base64.
func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && !encodesItself(t.Elem()) &&
		!reflect.PointerTo(t.Elem()).Implements(marshalerType)
}

func refuseBytes(v any) error {
	value := reflect.ValueOf(v)
	if !value.IsValid() || !holdsBytes(value.Type()) {
		return nil
	}
	walker := walk{check: func(value reflect.Value) string {
		if isBytes(value.Type()) {
			return "bytes inside JSON would have no agreed form: send them as the whole payload, or as text (base64) of your own"
		}
		return ""
	}}
	return walker.run(value)
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
	if fault, path := w.visit(value, "payload"); fault != "" {
		return invalid(path, "%s: %s", path, fault)
	}
	return nil
}

func (w *walk) visit(value reflect.Value, path string) (fault, where string) {
	if !value.IsValid() || w.depth > walkDepthMax || encodesItself(value.Type()) {
		return "", ""
	}
	if fault := w.check(value); fault != "" {
		return fault, path
	}
	w.depth++
	defer func() { w.depth-- }()
	switch value.Kind() {
	case reflect.Interface, reflect.Pointer:
		if !value.IsNil() {
			return w.visit(value.Elem(), path)
		}
	case reflect.Slice, reflect.Array:
		for i := range value.Len() {
			if fault, where := w.visit(value.Index(i), fmt.Sprintf("%s[%d]", path, i)); fault != "" {
				return fault, where
			}
		}
	case reflect.Map:
		for iterator := value.MapRange(); iterator.Next(); {
			inner := fmt.Sprintf("%s.%v", path, iterator.Key())
			if fault, where := w.visit(iterator.Key(), inner); fault != "" {
				return fault, where
			}
			if fault, where := w.visit(iterator.Value(), inner); fault != "" {
				return fault, where
			}
		}
	case reflect.Struct:
		return w.visitFields(value, path)
	}
	return "", ""
}

func (w *walk) visitFields(value reflect.Value, path string) (fault, where string) {
	for i := range value.NumField() {
		field := value.Type().Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case name == "-" && options == "", !field.IsExported() && !field.Anonymous:
			continue
		case strings.Contains(options, "omitempty") && value.Field(i).IsZero():
			continue
		case field.Anonymous && name == "":
			if fault, where := w.visit(value.Field(i), path); fault != "" {
				return fault, where
			}
			continue
		case name == "":
			name = field.Name
		}
		if fault, where := w.visit(value.Field(i), path+"."+name); fault != "" {
			return fault, where
		}
	}
	return "", ""
}
