//! What all other subjects rely on.

use std::sync::Arc;

use libtest_mimic::Trial;
use serde_json::json;

use crate::context::{Context, trial};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "smoke::api_server_answers", |ctx, ns| {
            let version = ctx.cluster().kubectl().run(&["get", "--raw", "/version"])?.ok()?;
            assert!(version.contains("gitVersion"), "{version}");
            assert_eq!(ns.kubectl.get_json("namespace/default")?["kind"], "Namespace");
            let config_maps = ns.kubectl.run(&["create", "configmap", "mine"])?.ok()?;
            assert_eq!(config_maps, "configmap/mine created\n", "in namespace {}", ns.name);
            Ok(())
        }),
        trial(ctx, "smoke::berth_is_asked", |ctx, ns| {
            assert_eq!(ctx.berth().get("/readyz")?.status, 200);
            let deployment = json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "web", "annotations": {"berth.dev/inject": "enabled", "berth.dev/replicas": "0"}},
                "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "app", "image": "example"}]}}},
            });
            ns.kubectl.apply_yaml(&deployment.to_string())?.ok()?;
            assert_eq!(ns.stored("deployment/web")?["spec"]["replicas"], 0);
            let reviews = ctx.reviews(ns);
            assert!(
                reviews.iter().any(|review| review["name"] == "web" && review["webhook"] == "mutate"),
                "{reviews:?}"
            );
            Ok(())
        }),
    ]
}
