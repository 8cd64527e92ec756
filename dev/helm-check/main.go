// helm-check reads what `helm template` prints and says what a Kubernetes API server, or a person, would find wrong with it:
//
//	helm template NAME CHART --values FILE | helm-check
//
// Each object is decoded into its API type, as the API server does it: a kind, a field or a type of value that is not known is
// refused, and so is a key that stands twice. Each pod is held against the Pod Security Standard "restricted", by the code of the
// admission controller. Then come mistakes that the types cannot know: see references.go.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

func main() {
	objects, faults := read(os.Stdin)
	faults = append(faults, check(objects)...)
	for _, fault := range faults {
		fmt.Fprintln(os.Stderr, "helm-check:", fault)
	}
	if len(faults) > 0 || len(objects) == 0 {
		fmt.Fprintf(os.Stderr, "helm-check: %d objects, %d faults\n", len(objects), len(faults))
		os.Exit(1)
	}
	fmt.Printf("%d objects are valid, unknown fields refused; every pod is as the standard \"restricted\" asks\n", len(objects))
}

// Every object of the input, and what is wrong with those that are none.
func read(input io.Reader) (objects []runtime.Object, faults []error) {
	known := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(known), monitoring.AddToScheme(known)); err != nil {
		return nil, []error{err}
	}
	decoder := serializer.NewCodecFactory(known, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewYAMLReader(bufio.NewReader(input))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, faults
		}
		if err != nil {
			return objects, append(faults, err)
		}
		json, err := yaml.ToJSON(document)
		if err == nil && string(json) == "null" {
			continue // comments alone
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			faults = append(faults, fmt.Errorf("%w, in\n%.200s", err, document))
			continue
		}
		objects = append(objects, object)
	}
}
