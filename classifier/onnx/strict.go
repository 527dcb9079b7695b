package onnx

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
)

// decodeStrict decodes JSON into *v and reports every fault, not the first: a field
// that v does not have, one that comes twice or in other case, a missing field that
// is tagged `want:"required"`, a null where a value must be, a value of another type,
// and data after the end. v may hold structs, pointers, slices and maps with string
// keys. What can be decoded is decoded.
func decodeStrict(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return fmt.Errorf("not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value: remove it")
	}
	return errors.Join(decodeValue("", raw, reflect.ValueOf(v).Elem())...)
}

func decodeValue(path string, raw json.RawMessage, v reflect.Value) []error {
	if string(raw) == "null" {
		return []error{fault(path, "is null: give a value or leave the field out")}
	}
	if u, ok := v.Addr().Interface().(json.Unmarshaler); ok {
		if err := u.UnmarshalJSON(raw); err != nil {
			return []error{fault(path, "is %s: %w", short(raw), err)}
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return decodeValue(path, raw, v.Elem())
	case reflect.Struct:
		return decodeStruct(path, raw, v)
	case reflect.Map:
		members, faults := decodeObject(path, raw)
		v.Set(reflect.MakeMap(v.Type()))
		for _, m := range members {
			item := reflect.New(v.Type().Elem()).Elem()
			faults = append(faults, decodeValue(join(path, m.key), m.raw, item)...)
			v.SetMapIndex(reflect.ValueOf(m.key), item)
		}
		return faults
	case reflect.Slice:
		var items []json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil {
			return []error{fault(path, "is %s, want a list", short(raw))}
		}
		v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
		var faults []error
		for i, item := range items {
			faults = append(faults, decodeValue(fmt.Sprintf("%s[%d]", path, i), item, v.Index(i))...)
		}
		return faults
	}
	if err := json.Unmarshal(raw, v.Addr().Interface()); err != nil {
		return []error{fault(path, "is %s, want %s", short(raw), kindName(v.Kind()))}
	}
	return nil
}

func decodeStruct(path string, raw json.RawMessage, v reflect.Value) []error {
	members, faults := decodeObject(path, raw)
	if members == nil && faults != nil {
		return faults
	}
	fields := map[string]reflect.Value{}
	var known, required []string
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		fields[name] = v.Field(i)
		known = append(known, name)
		if f.Tag.Get("want") == "required" {
			required = append(required, name)
		}
	}
	for _, m := range members {
		f, ok := fields[m.key]
		if !ok {
			faults = append(faults, fault(join(path, m.key), "is an unknown field: remove it, or use one of %s", strings.Join(known, ", ")))
			continue
		}
		required = slices.DeleteFunc(required, func(name string) bool { return name == m.key })
		faults = append(faults, decodeValue(join(path, m.key), m.raw, f)...)
	}
	for _, name := range required {
		faults = append(faults, fault(join(path, name), "is missing: add it"))
	}
	return faults
}

type member struct {
	key string
	raw json.RawMessage
}

// decodeObject returns the members of an object in their order, each key once.
func decodeObject(path string, raw json.RawMessage) ([]member, []error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, []error{fault(path, "is %s, want an object", short(raw))}
	}
	members, faults := []member{}, []error(nil)
	seen := map[string]bool{}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return members, append(faults, fault(path, "is no object: %w", err))
		}
		m := member{key: fmt.Sprint(key)}
		if err := dec.Decode(&m.raw); err != nil {
			return members, append(faults, fault(path, "is no object: %w", err))
		}
		if seen[m.key] {
			faults = append(faults, fault(join(path, m.key), "is given twice: keep one"))
			continue
		}
		seen[m.key] = true
		members = append(members, m)
	}
	return members, faults
}

// fault is an error about one field.
func fault(path, format string, args ...any) error {
	if path == "" {
		path = "the document"
	}
	return fmt.Errorf("%s "+format, append([]any{path}, args...)...)
}

func join(path, key string) string {
	if strings.ContainsAny(key, ". \t\n") || key == "" {
		key = fmt.Sprintf("%q", key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// short shows a value in an error without flooding it.
func short(raw json.RawMessage) string {
	const most = 40
	if len(raw) > most {
		return string(bytes.ToValidUTF8(raw[:most], nil)) + "..."
	}
	return string(raw)
}

func kindName(k reflect.Kind) string {
	switch k {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	}
	return "a number"
}
