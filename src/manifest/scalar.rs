//! What a scalar means: as kubectl reads it, which is YAML 1.1 where the two versions differ.

use serde_json::{Number, Value};

/// What a plain (unquoted) scalar stands for, by the rules of the YAML library that kubectl uses.
///
/// # Errors
/// What is wrong with it, when JSON has no such value.
pub(super) fn resolve(text: &str) -> Result<Value, String> {
    let first = text.bytes().next();
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        // YAML 1.1: `enabled: on` is true in every cluster, and a string to YAML 1.2.
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Ok(true.into()),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => return Ok(false.into()),
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => return Err(format!("{text} is no value of JSON; put it in quotes if it is meant as text")),
        _ => {}
    }
    if !first.is_some_and(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.')) {
        return Ok(text.into());
    }
    let digits = text.replace('_', "");
    if let Some(number) = integer(&digits) {
        return Ok(number.into());
    }
    if is_float(&digits) {
        let number = digits.parse::<f64>().ok().and_then(Number::from_f64);
        return number.map(Value::Number).ok_or_else(|| format!("{text} is too large a number"));
    }
    Ok(text.into())
}

/// Decimal, `0x`, `0b`, `0o`, and the octal of YAML 1.1 with a leading zero.
fn integer(digits: &str) -> Option<Number> {
    let (negative, magnitude) = match digits.strip_prefix(['+', '-']) {
        Some(rest) => (digits.starts_with('-'), rest),
        None => (false, digits),
    };
    let radix_of = |prefix: &str| match prefix {
        "0x" | "0X" => Some(16),
        "0b" | "0B" => Some(2),
        "0o" | "0O" => Some(8),
        _ => None,
    };
    let (radix, body) = match magnitude.get(..2).and_then(radix_of) {
        Some(radix) => (radix, magnitude.get(2..).unwrap_or_default()),
        None if magnitude.len() > 1 && magnitude.starts_with('0') => (8, &magnitude[1..]),
        None => (10, magnitude),
    };
    // The parser would take another sign here.
    if !body.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let value = u64::from_str_radix(body, radix).ok()?;
    match negative {
        false => Some(value.into()),
        true => 0_i64.checked_sub_unsigned(value).map(Number::from),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_fits = all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !exponent.is_empty() && all_digits(exponent)
    });
    mantissa_fits && exponent_fits
}

/// A mapping's key as JSON has it: always text.
pub(super) fn key_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null => Some("null".to_owned()),
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Text in the form that is read back as this very string, by YAML 1.1 and 1.2 alike: bare where that is beyond doubt,
/// else in double quotes.
pub(super) fn write_string(text: &str, flow: bool) -> String {
    if is_plain(text, flow) { text.to_owned() } else { quoted(text) }
}

/// Text in double quotes, with the escapes that JSON and YAML share.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    for c in Value::from(text).to_string().chars() {
        match c {
            // JSON leaves these as they are; to YAML they are not printable, or end a line.
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out
}

fn is_plain(text: &str, flow: bool) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/'));
    let fits = |c: char| {
        c.is_ascii_graphic() && !(flow && matches!(c, '[' | ']' | '{' | '}' | ',' | ':' | '#' | '\'' | '"')) || c == ' '
    };
    let splits = [": ", " #"].iter().any(|pair| text.contains(pair)) || text.ends_with([':', ' ']);
    starts && text.chars().all(fits) && !splits && resolve(text).is_ok_and(|value| value.is_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plain_scalars_mean_what_they_mean_to_kubectl() {
        for (text, value) in [
            ("", json!(null)),
            ("~", json!(null)),
            ("yes", json!(true)),
            ("Off", json!(false)),
            ("y", json!(true)),
            ("yEs", json!("yEs")),
            ("0", json!(0)),
            ("-3", json!(-3)),
            ("+3", json!(3)),
            ("1_000", json!(1000)),
            ("0x1F", json!(31)),
            ("0o17", json!(15)),
            ("017", json!(15)),
            ("08", json!(8.0)),
            ("0b11", json!(3)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("-9223372036854775808", json!(i64::MIN)),
            ("18446744073709551616", json!(18_446_744_073_709_551_616.0)),
            ("1.5", json!(1.5)),
            ("1e3", json!(1000.0)),
            (".5", json!(0.5)),
            ("1.", json!(1.0)),
            ("1e", json!("1e")),
            (".", json!(".")),
            ("-", json!("-")),
            ("--1", json!("--1")),
            ("0x", json!("0x")),
            ("0x-1", json!("0x-1")),
            ("1.2.3", json!("1.2.3")),
            ("2001-01-01", json!("2001-01-01")),
            ("12:30:45", json!("12:30:45")),
            ("100m", json!("100m")),
            ("1Gi", json!("1Gi")),
            ("web", json!("web")),
        ] {
            assert_eq!(resolve(text), Ok(value), "{text}");
        }
        assert!(resolve(".inf").is_err());
        assert!(resolve("1e999").is_err());
    }

    #[test]
    fn strings_are_quoted_only_where_they_must() {
        for (text, written) in [
            ("redis", "redis"),
            ("metadata.annotations['a/b']", "metadata.annotations['a/b']"),
            ("3", "\"3\""),
            ("yes", "\"yes\""),
            ("", "\"\""),
            ("a: b", "\"a: b\""),
            ("a #b", "\"a #b\""),
            ("a\nb", "\"a\\nb\""),
            ("-x", "\"-x\""),
            ("\u{85}", "\"\\u0085\""),
        ] {
            assert_eq!(write_string(text, false), written);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_scalar_panics(text in "[-+.0-9_xobeE]{0,12}|\\PC{0,12}") {
            let _ = resolve(&text);
        }
    }
}
