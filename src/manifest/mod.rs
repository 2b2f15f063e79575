//! Manifests: files of YAML or JSON with Kubernetes objects.
mod edit;
mod emit;
mod path;
mod scalar;
mod split;
mod tree;
