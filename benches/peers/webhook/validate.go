package main

import (
	"context"
	"fmt"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

// validator refuses what would break sessions.
type validator struct {
	decoder  admission.Decoder
	policies *policies
}

// Handle implements admission.Handler.
func (v *validator) Handle(ctx context.Context, req admission.Request) admission.Response {
	resp := v.review(ctx, req)
	logf.FromContext(ctx).Info("review", "allowed", resp.Allowed)
	return resp
}

func (v *validator) review(ctx context.Context, req admission.Request) admission.Response {
	object, err := decodeWorkload(v.decoder, req.Kind.Kind, req.Object)
	if err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	if object.GetDeletionTimestamp() != nil {
		return admission.Allowed("")
	}
	policy, errs, err := v.policies.of(ctx, object)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, fmt.Errorf("owner not readable; try again: %w", err))
	}
	if policy != nil {
		errs = append(errs, judge(object, policy)...)
	}
	if len(errs) == 0 {
		return admission.Allowed("")
	}
	if req.Operation == admissionv1.Update {
		old, err := decodeWorkload(v.decoder, req.Kind.Kind, req.OldObject)
		if err != nil {
			return admission.Errored(http.StatusBadRequest, err)
		}
		if warnings, worse := v.sinceBefore(ctx, object, old, errs); !worse {
			return admission.Allowed("").WithWarnings(warnings...)
		}
	}
	return refuse(object, errs)
}

// sinceBefore turns findings that the old object had already into warnings, unless the write makes them worse.
func (v *validator) sinceBefore(ctx context.Context, object, old *workload, errs field.ErrorList) (warnings []string, worse bool) {
	oldPolicy, oldErrs, err := v.policies.of(ctx, old)
	if err != nil {
		return nil, true
	}
	if oldPolicy != nil {
		oldErrs = append(oldErrs, judge(old, oldPolicy)...)
	}
	before := map[string]bool{}
	for _, e := range oldErrs {
		before[e.Field+e.Detail] = true
	}
	for _, e := range errs {
		if !before[e.Field+e.Detail] || object.count() > old.count() {
			return nil, true
		}
		warnings = append(warnings, e.Error())
	}
	return warnings, false
}

// judge applies the rules to one object.
func judge(w *workload, policy *scalingPolicy) field.ErrorList {
	var errs field.ErrorList
	replicas := field.NewPath("spec", "replicas")
	n := w.count()
	backend := policy.source == fromMCPServer && w.kind == "StatefulSet"
	if n > 1 && policy.transport == "stdio" {
		errs = append(errs, field.Invalid(replicas, n,
			"stdio is one process for one client; keep replicas at 1 or 0 [berth:StdioTransportCapAt1]"))
	} else if n > 1 && !policy.redis() && !backend {
		errs = append(errs, field.Invalid(replicas, n, "sessions are kept in memory; set the session provider to redis, "+
			"or keep replicas at 1 or 0 [berth:SessionStorageMissingForReplicas]"))
	}
	if policy.redis() && policy.address == "" {
		errs = append(errs, field.Required(policy.causesPath.Child("address"),
			"redis needs an address; set it [berth:SessionStorageAddressMissing]"))
	}
	if c := w.container(policy.container); c != nil && policy.password == nil {
		for i := range c.Env {
			if c.Env[i].Name == envPassword && c.Env[i].Value != "" {
				errs = append(errs, field.Invalid(field.NewPath("spec", "template", "spec", "containers").Key(c.Name).Child("env").Key(envPassword),
					"(hidden)", "a plain password is readable by everyone who can read the workload; name a Secret [berth:PlaintextPassword]"))
			}
		}
	}
	return errs
}

// refuse is a 422 with one cause for each error.
func refuse(w *workload, errs field.ErrorList) admission.Response {
	status := apierrors.NewInvalid(schema.GroupKind{Group: "apps", Kind: w.kind}, w.GetName(), errs).Status()
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Allowed: false, Result: &status}}
}
