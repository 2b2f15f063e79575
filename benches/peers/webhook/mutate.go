package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

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
	if w := setEnvironment(object, policy); w != "" {
		warnings = append(warnings, w)
	}
	if policy.source != fromVirtualMCPServer {
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

// setEnvironment gives the policy's container its entries, records those that were added, and takes back the password
// that was added once the policy does not ask for it any more.
func setEnvironment(object *workload, policy *scalingPolicy) (warning string) {
	c := object.container(policy.container)
	if c == nil {
		return ""
	}
	var added []string
	if policy.source != fromVirtualMCPServer && setEnv(c, generationEnv) {
		added = append(added, envGeneration)
	}
	switch {
	case policy.redis() && policy.password != nil:
		for i := range c.Env {
			if c.Env[i].Name == envPassword && c.Env[i].Value != "" {
				warning = "a plain " + envPassword + " was replaced by the reference to the Secret"
			}
		}
		if setEnv(c, passwordEnv(policy.password)) {
			added = append(added, envPassword)
		}
	case slices.Contains(recorded(object), c.Name+"/"+envPassword):
		c.Env = slices.DeleteFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == envPassword })
		keepRecord(object, slices.DeleteFunc(recorded(object), func(r string) bool { return r == c.Name+"/"+envPassword }))
	}
	if len(added) > 0 {
		record := recorded(object)
		for _, name := range added {
			record = append(record, c.Name+"/"+name)
		}
		keepRecord(object, record)
	}
	return warning
}

var generationEnv = corev1.EnvVar{
	Name: envGeneration,
	ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
		APIVersion: "v1", FieldPath: "metadata.annotations['" + annotationStamp + "']",
	}},
}

func passwordEnv(ref *SecretKeyRef) corev1.EnvVar {
	return corev1.EnvVar{
		Name: envPassword,
		ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: ref.Name}, Key: ref.Key,
		}},
	}
}

// recorded lists what was added, as CONTAINER/NAME.
func recorded(object *workload) []string {
	if text := object.GetAnnotations()[annotationInjectedEnv]; text != "" {
		return strings.Split(text, ",")
	}
	return nil
}

func keepRecord(object *workload, record []string) {
	slices.Sort(record)
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	if record = slices.Compact(record); len(record) == 0 {
		delete(annotations, annotationInjectedEnv)
	} else {
		annotations[annotationInjectedEnv] = strings.Join(record, ",")
	}
	object.SetAnnotations(annotations)
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

// setEnv makes want the only entry of its name, and says whether anything changed.
func setEnv(c *corev1.Container, want corev1.EnvVar) bool {
	first := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == want.Name })
	if first < 0 {
		c.Env = append(c.Env, want)
		return true
	}
	changed := !apiequality.Semantic.DeepEqual(c.Env[first], want)
	c.Env[first] = want
	rest := slices.DeleteFunc(c.Env[first+1:], func(e corev1.EnvVar) bool { return e.Name == want.Name })
	c.Env = c.Env[:first+1+len(rest)]
	return changed
}
