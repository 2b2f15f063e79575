//! What all other subjects rely on.

use std::sync::Arc;

use libtest_mimic::Trial;

use crate::context::{Context, trial};

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![trial(ctx, "smoke::api_server_answers", |ctx, ns| {
        let version = ctx.cluster().kubectl().run(&["get", "--raw", "/version"])?.ok()?;
        assert!(version.contains("gitVersion"), "{version}");
        assert_eq!(ns.kubectl.get_json("namespace/default")?["kind"], "Namespace");
        let config_maps = ns.kubectl.run(&["create", "configmap", "mine"])?.ok()?;
        assert_eq!(config_maps, "configmap/mine created\n", "in namespace {}", ns.name);
        Ok(())
    })]
}
