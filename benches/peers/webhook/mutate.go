package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

const (
	annotationStamp       = "toolhive.stacklok.dev/mcpserver-generation"
	envPassword           = "THV_SESSION_REDIS_PASSWORD"
	envGeneration         = "THV_MCPSERVER_GENERATION"
	defaultGrace    int64 = 30
)

// mutator wires workloads for scaling as they are written.
type mutator struct {
	decoder  admission.Decoder
	policies *policies
}

// Handle implements admission.Handler.
func (m *mutator) Handle(ctx context.Context, req admission.Request) admission.Response {
	resp := m.review(ctx, req)
	logf.FromContext(ctx).Info("review", "allowed", resp.Allowed, "patches", len(resp.Patches))
	return resp
}

func (m *mutator) review(ctx context.Context, req admission.Request) admission.Response {
	object, err := decodeWorkload(m.decoder, req.Kind.Kind, req.Object)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if object.GetNamespace() == "" {
		object.SetNamespace(req.Namespace)
	}
	var old *workload
	if req.Operation == admissionv1.Update {
		if old, err = decodeWorkload(m.decoder, req.Kind.Kind, req.OldObject); err != nil {
			return admission.Errored(http.StatusBadRequest, err)
		}
	}
	policy, errs, err := m.policies.of(ctx, object)
	switch {
	case err != nil:
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("owner not readable; try again: %w", err))
	case len(errs) > 0:
		return refuse(object, errs)
	case policy == nil:
		return admission.Allowed("")
	}
	warnings, refused := mutate(object, old, policy)
	if refused != nil {
		return *refused
	}
	mutated, err := json.Marshal(object.Object)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(req.Object.Raw, mutated).WithWarnings(warnings...)
}

// mutate changes object as policy asks. old is nil on CREATE.
func mutate(object, old *workload, policy *scalingPolicy) (warnings []string, refused *admission.Response) {
	warnings = setReplicas(object, old, policy)
	setGrace(object, policy)
	if policy.source == fromMCPServer && object.kind == "StatefulSet" {
		return warnings, setStamp(object, old, policy)
	}
	if w := setPassword(object, policy); w != "" {
		warnings = append(warnings, w)
	}
	if policy.source != fromVirtualMCPServer {
		setEnv(object.container(policy.container), corev1.EnvVar{
			Name: envGeneration,
			ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
				APIVersion: "v1", FieldPath: "metadata.annotations['" + annotationStamp + "']",
			}},
		})
		refused = setStamp(object, old, policy)
	}
	return warnings, refused
}

func setReplicas(object, old *workload, policy *scalingPolicy) []string {
	if policy.replicas == nil {
		return nil
	}
	want := *policy.replicas
	if old == nil {
		*object.replicas = &want
		return nil
	}
	if policy.source != fromAnnotations {
		return nil
	}
	live := old.count()
	rollback := stamp(object.template) < stamp(old.template) && stamp(object.template) > 0
	if rollback || object.GetAnnotations()[annotationReplicas] == old.GetAnnotations()[annotationReplicas] {
		if object.count() != live {
			*object.replicas = &live
			return []string{fmt.Sprintf("spec.replicas stays %d; use kubectl scale, or the annotation %s", live, annotationReplicas)}
		}
		return nil
	}
	*object.replicas = &want
	return nil
}

func setGrace(object *workload, policy *scalingPolicy) {
	grace := &object.template.Spec.TerminationGracePeriodSeconds
	if policy.grace != nil {
		n := *policy.grace
		*grace = &n
	} else if *grace == nil {
		n := defaultGrace
		*grace = &n
	}
}

func setPassword(object *workload, policy *scalingPolicy) (warning string) {
	c := object.container(policy.container)
	if c == nil {
		return ""
	}
	if !policy.redis() || policy.password == nil {
		if object.GetAnnotations()[annotationInjectedEnv] == envPassword {
			removeEnv(c, envPassword)
			annotations := object.GetAnnotations()
			delete(annotations, annotationInjectedEnv)
			object.SetAnnotations(annotations)
		}
		return ""
	}
	had := false
	for i := range c.Env {
		if c.Env[i].Name == envPassword {
			had = true
			if c.Env[i].Value != "" {
				warning = "a plain " + envPassword + " was replaced by the reference to the Secret"
			}
		}
	}
	setEnv(c, corev1.EnvVar{
		Name: envPassword,
		ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: policy.password.Name}, Key: policy.password.Key,
		}},
	})
	if !had {
		annotate(object, annotationInjectedEnv, envPassword)
	}
	return warning
}

// setStamp keeps the generation stamp of the pod template; it only ever rises.
func setStamp(object, old *workload, policy *scalingPolicy) *admission.Response {
	var live int64
	if old != nil {
		live = stamp(old.template)
	}
	now := stamp(object.template)
	if policy.owner != nil {
		switch {
		case now == 0 && live > 0:
			now = live
		case now == 0:
			now = policy.owner.GetGeneration()
		case now < live && sameOwner(object, old):
			r := admission.Denied(fmt.Sprintf("the pod template is of generation %d, and generation %d is live; "+
				"read the object again [berth:StaleGeneration]", now, live))
			return &r
		case now > policy.owner.GetGeneration():
			now = policy.owner.GetGeneration()
		}
	} else {
		switch {
		case old == nil:
			now = max(now, 1)
		case sameTemplate(object.template, old.template):
			now = max(live, 1)
		default:
			now = max(now, live+1)
		}
	}
	if object.template.Annotations == nil {
		object.template.Annotations = map[string]string{}
	}
	object.template.Annotations[annotationStamp] = strconv.FormatInt(now, 10)
	return nil
}

func sameOwner(object, old *workload) bool {
	a, b := metav1.GetControllerOf(object), metav1.GetControllerOf(old)
	return a != nil && b != nil && a.UID == b.UID
}

// sameTemplate compares pod templates without their stamps.
func sameTemplate(a, b *corev1.PodTemplateSpec) bool {
	a, b = a.DeepCopy(), b.DeepCopy()
	delete(a.Annotations, annotationStamp)
	delete(b.Annotations, annotationStamp)
	return apiequality.Semantic.DeepEqual(a, b)
}

// stamp is the template's generation; what cannot be read counts as absent.
func stamp(t *corev1.PodTemplateSpec) int64 {
	n, err := strconv.ParseInt(t.Annotations[annotationStamp], 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func setEnv(c *corev1.Container, want corev1.EnvVar) {
	if c == nil {
		return
	}
	found := false
	kept := c.Env[:0]
	for _, e := range c.Env {
		if e.Name == want.Name {
			if found {
				continue
			}
			found = true
			e = want
		}
		kept = append(kept, e)
	}
	if !found {
		kept = append(kept, want)
	}
	c.Env = kept
}

func removeEnv(c *corev1.Container, name string) {
	kept := c.Env[:0]
	for _, e := range c.Env {
		if e.Name != name {
			kept = append(kept, e)
		}
	}
	c.Env = kept
}
