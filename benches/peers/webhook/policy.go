package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	annotationInject      = "berth.dev/inject"
	annotationReplicas    = "berth.dev/replicas"
	annotationProvider    = "berth.dev/session-provider"
	annotationAddress     = "berth.dev/session-address"
	annotationDB          = "berth.dev/session-db"
	annotationKeyPrefix   = "berth.dev/session-key-prefix"
	annotationPassword    = "berth.dev/session-password-secret"
	annotationTransport   = "berth.dev/transport"
	annotationGrace       = "berth.dev/termination-grace-period-seconds"
	annotationContainer   = "berth.dev/container"
	annotationInjectedEnv = "berth.dev/injected-env"
	annotationDefault     = "kubectl.kubernetes.io/default-container"
)

// policySource says whose wish a policy is.
type policySource int

const (
	fromAnnotations policySource = iota
	fromMCPServer
	fromVirtualMCPServer
)

// scalingPolicy is what the mutation and the rules work from.
type scalingPolicy struct {
	source     policySource
	owner      client.Object // the custom resource, or nil
	replicas   *int32
	provider   string
	address    string
	db         int32
	keyPrefix  string
	password   *SecretKeyRef
	transport  string
	grace      *int64
	container  string
	causesPath *field.Path
}

func (p *scalingPolicy) redis() bool { return p.provider == "redis" }

// policies finds the policy of a workload.
type policies struct {
	cached client.Reader
	live   client.Reader
}

// of returns the policy of w, or nil where w is none of ours. Field errors are what the object says wrongly;
// the error is what kept us from reading the owner.
func (p *policies) of(ctx context.Context, w *workload) (*scalingPolicy, field.ErrorList, error) {
	if ref := metav1.GetControllerOf(w); ref != nil && strings.HasPrefix(ref.APIVersion, groupVersion.Group+"/") {
		policy, errs, err := p.ofOwner(ctx, w, ref)
		if policy != nil || len(errs) > 0 || err != nil {
			return policy, errs, err
		}
	}
	policy, errs := ofAnnotations(w)
	return policy, errs, nil
}

func (p *policies) ofOwner(ctx context.Context, w *workload, ref *metav1.OwnerReference) (*scalingPolicy, field.ErrorList, error) {
	key := types.NamespacedName{Namespace: w.GetNamespace(), Name: ref.Name}
	switch ref.Kind {
	case "MCPServer":
		cr := &MCPServer{}
		if ok, err := p.get(ctx, key, cr, ref.UID); !ok {
			return nil, nil, err
		}
		policy, errs := ofSpec(w, cr, &cr.Spec, fromMCPServer, "toolhive", "stdio")
		return policy, errs, nil
	case "VirtualMCPServer":
		cr := &VirtualMCPServer{}
		if ok, err := p.get(ctx, key, cr, ref.UID); !ok {
			return nil, nil, err
		}
		policy, errs := ofSpec(w, cr, &cr.Spec, fromVirtualMCPServer, "vmcp", "streamable-http")
		return policy, errs, nil
	}
	return nil, nil, nil
}

// get reads from the cache, and from the API server when the cache does not have this very object.
func (p *policies) get(ctx context.Context, key types.NamespacedName, into client.Object, uid types.UID) (bool, error) {
	err := p.cached.Get(ctx, key, into)
	if err == nil && into.GetUID() == uid {
		return true, nil
	}
	if err != nil && !apierrors.IsNotFound(err) {
		return false, err
	}
	if err := p.live.Get(ctx, key, into); err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return into.GetUID() == uid, nil
}

func ofSpec(w *workload, cr client.Object, spec *ServerSpec, source policySource, container, transport string) (*scalingPolicy, field.ErrorList) {
	path := field.NewPath("spec")
	policy := &scalingPolicy{
		source: source, owner: cr, replicas: spec.Replicas, transport: spec.Transport, container: container, causesPath: path,
	}
	if policy.transport == "" {
		policy.transport = transport
	}
	if source == fromMCPServer && w.kind == "StatefulSet" {
		policy.replicas, policy.container = spec.BackendReplicas, ""
	}
	if s := spec.SessionStorage; s != nil {
		policy.provider, policy.address, policy.db = s.Provider, s.Address, s.DB
		policy.keyPrefix, policy.password = s.KeyPrefix, s.PasswordRef
	}
	var errs field.ErrorList
	policy.grace = parseInt[int64](cr.GetAnnotations(), annotationGrace, &errs)
	return policy, append(errs, policy.check(path)...)
}

func ofAnnotations(w *workload) (*scalingPolicy, field.ErrorList) {
	a := w.GetAnnotations()
	path := field.NewPath("metadata", "annotations")
	switch v, ok := a[annotationInject]; {
	case !ok || v == "disabled":
		return nil, nil
	case v != "enabled":
		return nil, field.ErrorList{field.NotSupported(path.Key(annotationInject), v, []string{"enabled", "disabled"})}
	}
	var errs field.ErrorList
	policy := &scalingPolicy{
		source:     fromAnnotations,
		replicas:   parseInt[int32](a, annotationReplicas, &errs),
		provider:   a[annotationProvider],
		address:    a[annotationAddress],
		keyPrefix:  a[annotationKeyPrefix],
		transport:  a[annotationTransport],
		grace:      parseInt[int64](a, annotationGrace, &errs),
		causesPath: path,
	}
	if db := parseInt[int32](a, annotationDB, &errs); db != nil {
		policy.db = *db
	}
	if policy.transport == "" {
		policy.transport = "streamable-http"
	}
	if v, ok := a[annotationPassword]; ok {
		name, key, _ := strings.Cut(v, "/")
		if name == "" || key == "" {
			errs = append(errs, field.Invalid(path.Key(annotationPassword), v, "must be NAME/KEY of a Secret"))
		}
		policy.password = &SecretKeyRef{Name: name, Key: key}
	}
	if name, err := chooseContainer(w, a); err != nil {
		errs = append(errs, err)
	} else {
		policy.container = name
	}
	return policy, append(errs, policy.check(path)...)
}

// check has the rules that hold for either source.
func (p *scalingPolicy) check(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.replicas != nil && *p.replicas < 0 {
		errs = append(errs, field.Invalid(path.Child("replicas"), *p.replicas, "must be 0 or more"))
	}
	if p.db < 0 {
		errs = append(errs, field.Invalid(path.Child("db"), p.db, "must be 0 or more"))
	}
	switch p.provider {
	case "", "memory", "redis":
	default:
		errs = append(errs, field.NotSupported(path.Child("provider"), p.provider, []string{"memory", "redis"}))
	}
	switch p.transport {
	case "stdio", "sse", "streamable-http":
	default:
		errs = append(errs, field.NotSupported(path.Child("transport"), p.transport, []string{"stdio", "sse", "streamable-http"}))
	}
	if p.address != "" {
		if err := checkAddress(p.address); err != nil {
			errs = append(errs, field.Invalid(path.Child("address"), p.address, err.Error()))
		}
	}
	return errs
}

func checkAddress(address string) error {
	if strings.Contains(address, "://") {
		u, err := url.Parse(address)
		switch {
		case err != nil:
			return fmt.Errorf("is not a URL")
		case u.User != nil:
			return fmt.Errorf("must not carry credentials; name a Secret instead")
		case u.Scheme != "redis" && u.Scheme != "rediss":
			return fmt.Errorf("must be redis:// or rediss://")
		}
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return fmt.Errorf("must be HOST:PORT")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("must end in a port")
	}
	return nil
}

func chooseContainer(w *workload, a map[string]string) (string, *field.Error) {
	names := make([]string, 0, len(w.template.Spec.Containers))
	for i := range w.template.Spec.Containers {
		names = append(names, w.template.Spec.Containers[i].Name)
	}
	if name, ok := a[annotationContainer]; ok {
		if w.container(name) == nil {
			return "", field.NotSupported(field.NewPath("metadata", "annotations").Key(annotationContainer), name, names)
		}
		return name, nil
	}
	if name := w.template.Annotations[annotationDefault]; w.container(name) != nil {
		return name, nil
	}
	if len(names) == 1 {
		return names[0], nil
	}
	return "", field.Required(field.NewPath("metadata", "annotations").Key(annotationContainer),
		"names one of "+strings.Join(names, ", "))
}

func parseInt[T int32 | int64](annotations map[string]string, key string, errs *field.ErrorList) *T {
	text, ok := annotations[key]
	if !ok {
		return nil
	}
	bits := 32
	if _, wide := any(T(0)).(int64); wide {
		bits = 64
	}
	n, err := strconv.ParseInt(text, 10, bits)
	if err != nil || n < 0 {
		*errs = append(*errs, field.Invalid(field.NewPath("metadata", "annotations").Key(key), text, "must be a whole number, 0 or more"))
		return nil
	}
	v := T(n)
	return &v
}
