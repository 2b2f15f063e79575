//! Nobody keeps an object from going: what is being deleted is never refused.

use std::sync::Arc;

use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use super::{assert_absent, assert_passed};
use crate::context::{Context, Namespace, trial};
use crate::objects::{RESOURCES, WORKLOADS, autoscaler, in_redis, put, redis, replicas, resource};

pub(super) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![
        trial(ctx, "refusals::deletions::of_workloads", workloads),
        trial(ctx, "refusals::deletions::of_resources", resources),
    ]
}

const RELEASE: &str = r#"{"metadata":{"finalizers":null}}"#;

fn held(mut object: Value) -> Value {
    object["metadata"]["finalizers"] = json!(["example.com/held"]);
    object
}

fn workloads(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in WORKLOADS {
        let (what, object) = (&format!("{kind}/web"), held(replicas(in_redis(kind, "web", &[]), 3)));
        put(ns, &object)?;
        put(ns, &held(autoscaler("web", &object, 5)))?;
        kubectl.run(&["delete", what, "hpa/web", "--wait=false"])?.ok()?;
        // Each of these would be refused of an object that stays.
        for write in [
            &["annotate", what, "berth.dev/session-provider=memory", "--overwrite"][..],
            &["annotate", what, "berth.dev/transport=carrier-pigeon"],
            &["patch", what, "--type=merge", "-p", r#"{"spec":{"replicas":7}}"#],
            &["scale", what, "--replicas=9"],
            &["patch", "hpa/web", "--type=merge", "-p", r#"{"spec":{"maxReplicas":9}}"#],
            &["patch", "hpa/web", "--type=merge", "-p", RELEASE],
            &["patch", what, "--type=merge", "-p", RELEASE],
        ] {
            assert_passed(&kubectl.run(write)?, &[]);
        }
        assert_absent(ns, what)?;
        assert_absent(ns, "hpa/web")?;
    }
    Ok(())
}

fn resources(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    let kubectl = &ns.kubectl;
    for kind in RESOURCES {
        let what = &format!("{kind}/foo");
        let spec = json!({"replicas": 3, "sessionStorage": redis()});
        put(ns, &held(resource(kind, "v1beta1", "foo", spec)))?;
        kubectl.run(&["delete", what, "--wait=false"])?.ok()?;
        for write in [
            &["patch", what, "--type=merge", "-p", r#"{"spec":{"sessionStorage":{"provider":"memory"}}}"#][..],
            &["patch", what, "--type=merge", "-p", r#"{"spec":{"replicas":7}}"#],
            &["scale", what, "--replicas=9"],
            &["patch", what, "--type=merge", "-p", RELEASE],
        ] {
            assert_passed(&kubectl.run(write)?, &[]);
        }
        assert_absent(ns, what)?;
    }
    Ok(())
}
