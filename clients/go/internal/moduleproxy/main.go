// SPDX-License-Identifier: Apache-2.0

// Moduleproxy packs the modules below a folder as a release would, into a folder that the go command takes as a proxy (file://):
//
//	go run ./internal/moduleproxy <folder of the module> <folder of the proxy> <version>
package main

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: moduleproxy <module> <proxy> <version>")
	}
	root, proxy, version := os.Args[1], os.Args[2], os.Args[3]
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "go.mod" {
			err = pack(filepath.Dir(path), proxy, version)
		}
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// pack writes what a proxy answers about one module.
func pack(folder, proxy, version string) (err error) {
	text, err := os.ReadFile(filepath.Join(folder, "go.mod"))
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	module := strings.TrimPrefix(first, "module ")
	at := filepath.Join(proxy, module, "@v")
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	info, err := json.Marshal(map[string]any{"Version": version, "Time": time.Now().UTC()})
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{version + ".info": info, version + ".mod": text, "list": []byte(version + "\n")} {
		if err := os.WriteFile(filepath.Join(at, name), content, 0o644); err != nil {
			return err
		}
	}
	file, err := os.Create(filepath.Join(at, version+".zip"))
	if err != nil {
		return err
	}
	archive := zip.NewWriter(file)
	defer func() { err = errors.Join(err, archive.Close(), file.Close()) }()
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if _, nested := os.Stat(filepath.Join(path, "go.mod")); nested == nil && path != folder {
				return fs.SkipDir
			}
			return nil
		}
		return add(archive, path, fmt.Sprintf("%s@%s/%s", module, version, filepath.ToSlash(strings.TrimPrefix(path, folder+string(filepath.Separator)))))
	})
}

func add(archive *zip.Writer, path, name string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := archive.Create(name)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return err
}
