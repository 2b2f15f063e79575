package main

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// workload is what a Deployment and a StatefulSet have in common here. Its fields point into the object.
type workload struct {
	client.Object
	kind     string
	replicas **int32
	template *corev1.PodTemplateSpec
}

// decodeWorkload decodes the object (or the old object) of a review.
func decodeWorkload(d admission.Decoder, kind string, raw runtime.RawExtension) (*workload, error) {
	switch kind {
	case "Deployment":
		o := &appsv1.Deployment{}
		if err := d.DecodeRaw(raw, o); err != nil {
			return nil, err
		}
		return &workload{Object: o, kind: kind, replicas: &o.Spec.Replicas, template: &o.Spec.Template}, nil
	case "StatefulSet":
		o := &appsv1.StatefulSet{}
		if err := d.DecodeRaw(raw, o); err != nil {
			return nil, err
		}
		return &workload{Object: o, kind: kind, replicas: &o.Spec.Replicas, template: &o.Spec.Template}, nil
	default:
		return nil, fmt.Errorf("kind %q is not a workload", kind)
	}
}

// count is the number of replicas; absent means 1, as in the API.
func (w *workload) count() int32 {
	if *w.replicas == nil {
		return 1
	}
	return **w.replicas
}

// container finds a container of the pod template by name, or nil.
func (w *workload) container(name string) *corev1.Container {
	for i := range w.template.Spec.Containers {
		if w.template.Spec.Containers[i].Name == name {
			return &w.template.Spec.Containers[i]
		}
	}
	return nil
}
