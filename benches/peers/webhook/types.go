package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// groupVersion is the version of the custom resources that this webhook watches.
var groupVersion = schema.GroupVersion{Group: "toolhive.stacklok.dev", Version: "v1beta1"}

func addToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(groupVersion, &MCPServer{}, &MCPServerList{}, &VirtualMCPServer{}, &VirtualMCPServerList{})
	metav1.AddToGroupVersion(s, groupVersion)
	return nil
}

// SecretKeyRef names one key of a Secret in the object's namespace.
type SecretKeyRef struct {
	Name string `json:"name"`
	Key  string `json:"key"`
}

// SessionStorage is where sessions are kept.
type SessionStorage struct {
	Provider    string        `json:"provider,omitempty"`
	Address     string        `json:"address,omitempty"`
	DB          int32         `json:"db,omitempty"`
	KeyPrefix   string        `json:"keyPrefix,omitempty"`
	PasswordRef *SecretKeyRef `json:"passwordRef,omitempty"`
}

// ServerSpec has the fields of both kinds that scaling depends on.
type ServerSpec struct {
	Replicas        *int32          `json:"replicas,omitempty"`
	BackendReplicas *int32          `json:"backendReplicas,omitempty"`
	Transport       string          `json:"transport,omitempty"`
	SessionStorage  *SessionStorage `json:"sessionStorage,omitempty"`
}

// MCPServer is one MCP server and its proxy.
type MCPServer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ServerSpec `json:"spec,omitempty"`
}

// MCPServerList is a list of MCPServer.
type MCPServerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []MCPServer `json:"items"`
}

// VirtualMCPServer aggregates several MCP servers.
type VirtualMCPServer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ServerSpec `json:"spec,omitempty"`
}

// VirtualMCPServerList is a list of VirtualMCPServer.
type VirtualMCPServerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []VirtualMCPServer `json:"items"`
}

func (in *ServerSpec) deepCopyInto(out *ServerSpec) {
	*out = *in
	if in.Replicas != nil {
		n := *in.Replicas
		out.Replicas = &n
	}
	if in.BackendReplicas != nil {
		n := *in.BackendReplicas
		out.BackendReplicas = &n
	}
	if in.SessionStorage != nil {
		s := *in.SessionStorage
		if s.PasswordRef != nil {
			ref := *s.PasswordRef
			s.PasswordRef = &ref
		}
		out.SessionStorage = &s
	}
}

// DeepCopyInto copies the receiver into out.
func (in *MCPServer) DeepCopyInto(out *MCPServer) {
	*out = *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	in.Spec.deepCopyInto(&out.Spec)
}

// DeepCopyObject implements runtime.Object.
func (in *MCPServer) DeepCopyObject() runtime.Object {
	out := new(MCPServer)
	in.DeepCopyInto(out)
	return out
}

// DeepCopyObject implements runtime.Object.
func (in *MCPServerList) DeepCopyObject() runtime.Object {
	out := &MCPServerList{TypeMeta: in.TypeMeta, Items: make([]MCPServer, len(in.Items))}
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range in.Items {
		in.Items[i].DeepCopyInto(&out.Items[i])
	}
	return out
}

// DeepCopyInto copies the receiver into out.
func (in *VirtualMCPServer) DeepCopyInto(out *VirtualMCPServer) {
	*out = *in
	in.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	in.Spec.deepCopyInto(&out.Spec)
}

// DeepCopyObject implements runtime.Object.
func (in *VirtualMCPServer) DeepCopyObject() runtime.Object {
	out := new(VirtualMCPServer)
	in.DeepCopyInto(out)
	return out
}

// DeepCopyObject implements runtime.Object.
func (in *VirtualMCPServerList) DeepCopyObject() runtime.Object {
	out := &VirtualMCPServerList{TypeMeta: in.TypeMeta, Items: make([]VirtualMCPServer, len(in.Items))}
	in.ListMeta.DeepCopyInto(&out.ListMeta)
	for i := range in.Items {
		in.Items[i].DeepCopyInto(&out.Items[i])
	}
	return out
}
