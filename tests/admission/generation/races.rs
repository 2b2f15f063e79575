//! Two writers at a time, of which one has not seen the newest state of the MCPServer.

use std::sync::Arc;

use berth_test_cluster::is_told_to_try_again;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, Error};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use super::{change_server, define_server, image, stamped, with_image};
use crate::client::{from_value, to_value};
use crate::context::{Context, Namespace, trial};
use crate::objects::owned;
use crate::wiring::stamp;

pub(super) fn trials(ctx: &Arc<Context>) -> Vec<Trial> {
    vec![trial(ctx, "generation::races::the_older_writer_never_wins", the_older_writer_never_wins)]
}

const ROUNDS: i64 = 200;

/// How a writer writes; none of them says which state of the object it has seen.
#[derive(Clone, Copy, Debug)]
enum Form {
    Replace,
    Merge,
    Apply(&'static str),
}

async fn write(api: &Api<DynamicObject>, form: Form, manifest: &Value) -> Result<DynamicObject, Error> {
    match form {
        Form::Replace => {
            let object = from_value(manifest).expect("it is an object");
            api.replace("foo", &PostParams::default(), &object).await
        }
        Form::Merge => api.patch("foo", &PatchParams::default(), &Patch::Merge(manifest)).await,
        Form::Apply(manager) => api.patch("foo", &PatchParams::apply(manager).force(), &Patch::Apply(manifest)).await,
    }
}

fn the_older_writer_never_wins(_: &Context, ns: &Namespace) -> Result<(), Failed> {
    define_server(ns, "foo")?;
    let mut manifest = owned(ns, "mcpserver/foo", "Deployment")?;
    // Two hundred ReplicaSets are of no interest here.
    manifest["spec"]["paused"] = true.into();
    let from = |generation: i64| stamped(with_image(manifest.clone(), &format!("example:{generation}")), generation);
    ns.client.create(&ns.name, &from(1))?;
    let api = ns.client.api(&ns.name, "deployment");

    let (mut came_first, mut came_late) = (0, 0);
    for round in 0..ROUNDS {
        let newest = change_server(ns, "foo")?;
        let (older, newer) = (from(newest - 1), from(newest));
        let forms = |manager| [Form::Replace, Form::Merge, Form::Apply(manager)];
        let (of_older, of_newer) = (forms("older")[round as usize % 3], forms("newer")[round as usize / 3 % 3]);
        let (older, newer) = ns.client.block_on(async {
            let (older, newer) = (write(&api, of_older, &older), write(&api, of_newer, &newer));
            // Each is sent first in half of the rounds.
            if round % 2 == 0 {
                tokio::join!(older, newer)
            } else {
                let (newer, older) = tokio::join!(newer, older);
                (older, newer)
            }
        });
        let told = [&newer, &older].map(|outcome| outcome.as_ref().err().map(ToString::to_string).unwrap_or_default());
        if told.iter().any(|told| is_told_to_try_again(told)) {
            // Nothing was decided about one of them, so there was no race.
            continue;
        }
        newer.map_err(|error| format!("round {round}: the newer writer ({of_newer:?}): {error}"))?;
        match older {
            Ok(_) => came_first += 1,
            Err(Error::Api(status)) if status.code == 403 && status.message.ends_with("[berth:StaleGeneration]") => {
                came_late += 1;
            }
            Err(error) => return Err(format!("round {round}: the older writer ({of_older:?}): {error}").into()),
        }
        let stored = to_value(&ns.client.block_on(api.get("foo"))?);
        let expected = (newest.to_string(), format!("example:{newest}"));
        assert_eq!((stamp(&stored), image(&stored)), (Some(expected.0.as_str()), expected.1.as_str()), "round {round}");
    }
    assert!(came_first > 0 && came_late > 0, "no race: the older writer was first {came_first} times");
    Ok(())
}
