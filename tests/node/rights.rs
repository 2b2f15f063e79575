//! Berth has the rights that it uses, and no others.

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_test_cluster::{Error, Result};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::context::{Context, trial};
use crate::lifecycle::requests;
use crate::scene::Scene;

/// Rights without a request of their own in the audit log, each with what needs it.
const WITHOUT_REQUEST: [(&str, &str); 6] = [
    // An apply of what is not there is a patch that asks for this right too.
    ("create", "/configmaps"),
    ("create", "/services"),
    ("create", "apps/deployments"),
    ("create", "apps/statefulsets"),
    // The API server looks at the rights of whoever sets blockOwnerDeletion.
    ("update", "toolhive.stacklok.dev/mcpservers/finalizers"),
    ("update", "toolhive.stacklok.dev/virtualmcpservers/finalizers"),
];

/// A verb, and `group/resource`.
type Right = (String, String);

pub(crate) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![trial(ctx, "rights::every_right_is_used_and_nothing_is_refused", used)]
}

/// Pairs of verb and `group/resource` that the rules of Berth's roles grant.
fn granted(scene: &Scene<'_>) -> Result<BTreeSet<Right>> {
    let mut all = BTreeSet::new();
    let system = scene.kubectl.in_namespace("berth-system");
    for kind in ["clusterroles", "roles"] {
        let text = system.run(&["get", kind, "--selector=app.kubernetes.io/name=berth", "-o", "json"])?.ok()?;
        let roles: Value =
            serde_json::from_str(&text).map_err(|error| Error::new(format!("kubectl get {kind}: {error}")))?;
        for rule in roles["items"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default())
        {
            let words = |key: &str| -> Vec<String> {
                let words = rule[key].as_array().into_iter().flatten();
                words.filter_map(Value::as_str).map(str::to_owned).collect()
            };
            for group in words("apiGroups") {
                for resource in words("resources") {
                    all.extend(words("verbs").into_iter().map(|verb| (verb, format!("{group}/{resource}"))));
                }
            }
        }
    }
    Ok(all)
}

/// The same pairs, as the audit log of all trials so far has them; and what was refused.
fn asked(scene: &Scene<'_>) -> Result<(BTreeSet<Right>, Vec<String>)> {
    let (mut all, mut refused) = (BTreeSet::new(), Vec::new());
    let (_, start) = scene.stage().audit_log()?;
    for event in requests(scene, start)? {
        let object = &event["objectRef"];
        let Some(mut resource) = object["resource"].as_str().map(str::to_owned) else { continue };
        if let Some(part) = object["subresource"].as_str() {
            resource = format!("{resource}/{part}");
        }
        let verb = event["verb"].as_str().unwrap_or_default().to_owned();
        let message = event["responseStatus"]["message"].as_str().unwrap_or_default();
        // What ends with a trial's namespace is refused to everybody: the controller may be at it still.
        if event["responseStatus"]["code"] == 403 && !message.ends_with("because it is being terminated") {
            refused.push(format!("{verb} {}: {message}", event["requestURI"]));
        }
        all.insert((verb, format!("{}/{resource}", object["apiGroup"].as_str().unwrap_or_default())));
    }
    Ok((all, refused))
}

fn used(scene: &Scene<'_>) -> Result<(), Failed> {
    let granted = granted(scene)?;
    assert!(granted.len() > 10, "{granted:?}");
    let (asked, refused) = asked(scene)?;
    assert_eq!(refused, Vec::<String>::new());
    let known = |(verb, resource): &&Right| WITHOUT_REQUEST.contains(&(verb.as_str(), resource.as_str()));
    let unused: Vec<_> = granted.difference(&asked).filter(|right| !known(right)).collect();
    assert!(unused.is_empty(), "no request of this suite needed these rights; take them out of the roles: {unused:?}");
    Ok(())
}
