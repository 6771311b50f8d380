// SPDX-License-Identifier: Apache-2.0

// Command customresources decodes the custom resources among the YAML documents on standard input into the Go types of the operators
// that read them, and fails on a field that they do not have. Documents of Kubernetes itself are passed over.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	keda "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	prometheus "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

// types makes an empty object for each apiVersion and kind.
var types = map[string]func() any{
	"keda.sh/v1alpha1/ScaledObject":           func() any { return &keda.ScaledObject{} },
	"keda.sh/v1alpha1/TriggerAuthentication":  func() any { return &keda.TriggerAuthentication{} },
	"monitoring.coreos.com/v1/ServiceMonitor": func() any { return &prometheus.ServiceMonitor{} },
}

// isCustom tells custom resources by their group: those of Kubernetes have none, no domain, or one that ends in k8s.io.
func isCustom(apiVersion string) bool {
	group, _, found := strings.Cut(apiVersion, "/")
	return found && strings.Contains(group, ".") && !strings.HasSuffix(group, ".k8s.io")
}

// check answers the kind of a custom resource, or "" for one of Kubernetes.
func check(document []byte) (string, error) {
	var header struct{ APIVersion, Kind string }
	if err := yaml.Unmarshal(document, &header); err != nil {
		return "", err
	}
	if !isCustom(header.APIVersion) {
		return "", nil
	}
	create, known := types[header.APIVersion+"/"+header.Kind]
	if !known {
		return "", fmt.Errorf("%s %s is not known here", header.APIVersion, header.Kind)
	}
	if err := yaml.UnmarshalStrict(document, create()); err != nil {
		return "", fmt.Errorf("%s: %w", header.Kind, err)
	}
	return header.Kind, nil
}

func main() {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	failed := false
	for _, document := range bytes.Split(input, []byte("\n---")) {
		kind, err := check(document)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			failed = true
		} else if kind != "" {
			fmt.Println(kind)
		}
	}
	if failed {
		os.Exit(1)
	}
}
