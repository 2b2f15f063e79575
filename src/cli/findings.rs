//! What is wrong with an object, at its place in its file.

use serde::Serialize;

use crate::controller::objects::Reason;
use crate::policy::Problem;
use crate::preview::Judged;

/// One line of `berth validate`.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    /// `error` or `warning`.
    severity: &'static str,
    file: String,
    line: usize,
    kind: String,
    namespace: String,
    name: String,
    /// The rule that is broken, or why Berth's controller builds nothing; absent for warnings.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// Path of the field at fault.
    #[serde(skip_serializing_if = "String::is_empty")]
    field: String,
    message: String,
}

impl Finding {
    /// Everything that there is to say of an object: what refuses it first.
    pub(super) fn of(judged: &Judged<'_>) -> Vec<Self> {
        let mut findings = Vec::new();
        if let Some(refusal) = &judged.refusal {
            findings.extend(refusal.problems.iter().map(|problem| Self::problem(judged, problem)));
            if refusal.problems.is_empty() {
                let (code, message) = (refusal.word.map(|word| word.as_str()), refusal.message.clone());
                findings.push(Self { code, severity: "error", ..Self::new(judged, "", message) });
            }
        }
        findings.extend(judged.remarks.iter().filter(|remark| remark.reason.is_some()).map(|remark| {
            let code = remark.reason.map(Reason::as_str);
            Self { severity: "error", code, ..Self::warning(judged, &remark.text) }
        }));
        findings.extend(judged.warnings.iter().map(|warning| Self::warning(judged, warning)));
        let advice = judged.remarks.iter().filter(|remark| remark.reason.is_none());
        findings.extend(advice.map(|remark| Self::warning(judged, &remark.text)));
        findings
    }

    fn problem(judged: &Judged<'_>, problem: &Problem) -> Self {
        let code = problem.word.as_str();
        let message = problem.message();
        // The code word has a column of its own here.
        let message = message.strip_suffix(&format!(" [berth:{code}]")).unwrap_or(&message);
        Self { severity: "error", code: Some(code), ..Self::new(judged, &problem.field, message.to_owned()) }
    }

    fn warning(judged: &Judged<'_>, warning: &str) -> Self {
        // Most warnings begin with the field that they are about.
        let field = warning.split_once(' ').map_or("", |(field, _)| field.trim_end_matches(':'));
        let is_path = !field.is_empty() && judged.document.line_of(judged.object, field).1;
        Self::new(judged, if is_path { field } else { "" }, warning.to_owned())
    }

    fn new(judged: &Judged<'_>, field: &str, message: String) -> Self {
        let identity = &judged.identity;
        let rest = message.strip_prefix(field).filter(|_| !field.is_empty());
        let message = match rest.map(|rest| rest.trim_start_matches(':').trim_start()) {
            Some(rest) => rest.to_owned(),
            None => message,
        };
        Self {
            severity: "warning",
            file: judged.source.name(),
            line: line(judged, field),
            kind: identity.kind.kind.clone(),
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
            code: None,
            field: field.to_owned(),
            message,
        }
    }

    pub(super) fn is_error(&self) -> bool {
        self.severity == "error"
    }

    /// `FILE:LINE kind/name code-word message`.
    pub(super) fn line(&self, colour: bool) -> String {
        let word = self.code.unwrap_or(self.severity);
        let (paint, reset) = match (colour, self.is_error()) {
            (false, _) => ("", ""),
            (true, true) => ("\x1b[1;31m", "\x1b[0m"),
            (true, false) => ("\x1b[1;33m", "\x1b[0m"),
        };
        let field = if self.field.is_empty() { String::new() } else { format!("{}: ", self.field) };
        format!("{}:{} {}/{} {paint}{word}{reset} {field}{}", self.file, self.line, self.kind, self.name, self.message)
    }
}

/// The line of the field at fault, or of what comes nearest to it.
fn line(judged: &Judged<'_>, field: &str) -> usize {
    let line_of = |field: &str| judged.document.line_of(judged.object, field);
    let (nearest, exact) = line_of(field);
    if exact {
        return nearest;
    }
    // A count that an annotation asks for, and a field of the custom resource that controls the object.
    let instead = match field {
        "spec.replicas" => "metadata.annotations[berth.dev/replicas]",
        _ if field.contains(").") => "metadata.ownerReferences",
        _ => return nearest,
    };
    match line_of(instead) {
        (line, true) => line,
        _ => nearest,
    }
}
