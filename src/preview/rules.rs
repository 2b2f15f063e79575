//! The rules that bind an object, in words.

use super::explain::Rule;
use crate::policy::names::{self, THV_OPERATOR};
use crate::policy::{CodeWord, Metadata, Resolved, Role, ScalingPolicy, Transport};

/// Those of a workload.
pub(super) fn of_workload(resolved: &Resolved<'_>, metadata: &Metadata) -> Vec<Rule> {
    let policy = &resolved.parsed.policy;
    let backend = resolved.role == Role::McpServerBackend;
    let mut rules = vec![of_count(policy, backend)];
    rules.extend(of_address(policy));
    let advice = |text: String| Rule { code: None, text };
    rules.push(advice(match (policy.replicas, resolved.role) {
        (None, _) => "its count of replicas is left to its writers and autoscalers".to_owned(),
        (Some(_), Role::McpServerBackend) => "its count of replicas is its writer's".to_owned(),
        (Some(_), Role::Annotated) => format!(
            "its count is set when it is created and when {} changes; any other write keeps the live one",
            names::REPLICAS
        ),
        (Some(_), _) => "its count is set when it is created; after that its operator writes it".to_owned(),
    }));
    if !backend {
        let reference = policy.storage.redis().is_some_and(|redis| redis.password.is_some());
        rules.push(match reference {
            true => advice(format!("a plain {} is replaced by the reference to the Secret", names::PASSWORD_ENV)),
            false => Rule {
                code: Some(CodeWord::PlaintextPassword.as_str()),
                text: format!("a plain {} is refused", names::PASSWORD_ENV),
            },
        });
    }
    match resolved.role {
        Role::McpServerProxy | Role::McpServerBackend => rules.push(Rule {
            code: Some(CodeWord::StaleGeneration.as_str()),
            text: "a write with a lower generation stamp than the live one is refused".to_owned(),
        }),
        Role::Annotated => {
            rules.push(advice("every change of its pod template moves its generation stamp up by one".to_owned()));
        }
        Role::VirtualMcpServer => {}
    }
    if resolved.role.is_owned() && metadata.is_managed_by(THV_OPERATOR) {
        rules.push(advice("ToolHive's operator writes it, so Berth leaves its env alone".to_owned()));
    }
    rules
}

/// How many replicas there may be.
pub(super) fn of_count(policy: &ScalingPolicy, backend: bool) -> Rule {
    let what = if backend { "backend replicas" } else { "replicas" };
    let refused = |word: CodeWord, why: &str| Rule {
        code: Some(word.as_str()),
        text: format!("more than one of its {what} is refused: {why}"),
    };
    match (policy.transport, policy.storage.is_shared(), backend) {
        (Transport::Stdio, _, _) => {
            refused(CodeWord::StdioTransportCapAt1, "a stdio server is one process with one client")
        }
        (_, true, false) => {
            Rule { code: None, text: "any number of replicas: every one finds every session in Redis".to_owned() }
        }
        (_, true, true) => Rule {
            code: None,
            text: "any number of backend replicas: Redis knows which one holds a session".to_owned(),
        },
        (_, false, false) => refused(CodeWord::SessionStorageMissingForReplicas, "sessions are kept in memory"),
        (_, false, true) => Rule {
            code: None,
            text:
                "more than one backend replica draws a warning: a restart of the proxy loses which one holds a session"
                    .to_owned(),
        },
    }
}

/// Where the session store is.
pub(super) fn of_address(policy: &ScalingPolicy) -> Option<Rule> {
    policy.storage.redis().filter(|redis| redis.address.is_none())?;
    let code = Some(CodeWord::SessionStorageAddressMissing.as_str());
    Some(Rule { code, text: "Redis without an address is refused".to_owned() })
}
