//! The data of an event as tables. A value `x` that has a neighbour `x_threshold` is shown against it.
//!
//! Rows, columns and depth are bounded: the JSON has everything.

use maud::{Markup, html};
use serde_json::{Map, Value};

use super::visible;

const MAX_ROWS: usize = 200;
const MAX_COLUMNS: usize = 12;
const MAX_DEPTH: usize = 4;
const MAX_TEXT: usize = 400;
const THRESHOLD: &str = "_threshold";

pub(super) fn show(data: &[u8]) -> Markup {
    match serde_json::from_slice(data) {
        Ok(Value::Object(object)) if !object.is_empty() => fields(&object, 0),
        Ok(Value::Object(_)) => html! { p { "None." } },
        Ok(other) => html! { p { (value(&other, 0)) } },
        Err(_) if data.is_empty() => html! { p { "None." } },
        Err(error) => html! {
            p.problem { "This is not JSON: " (error) }
            pre.raw { (visible(&String::from_utf8_lossy(&data[..data.len().min(MAX_TEXT)]))) }
        },
    }
}

fn fields(object: &Map<String, Value>, depth: usize) -> Markup {
    let threshold = |key: &str| object.get(&format!("{key}{THRESHOLD}"));
    let is_threshold = |key: &str| key.strip_suffix(THRESHOLD).is_some_and(|of| object.contains_key(of));
    let (against, rest): (Vec<_>, Vec<_>) = object
        .iter()
        .filter(|(key, _)| !is_threshold(key))
        .take(MAX_ROWS)
        .partition(|(key, _)| threshold(key).is_some());
    html! {
        @if !against.is_empty() {
            table.data {
                thead { tr { th { "Field" } th { "Value" } th { "Threshold" } } }
                tbody {
                    @for (key, found) in against {
                        @let limit = threshold(key).unwrap_or(&Value::Null);
                        tr.over[is_over(found, limit)] {
                            th scope="row" { (visible(key)) }
                            td.number { (field(key, found, depth)) }
                            td.number { (field(key, limit, depth)) }
                        }
                    }
                }
            }
        }
        @if !rest.is_empty() {
            table.data {
                tbody { @for (key, found) in rest { tr { th scope="row" { (visible(key)) } td { (field(key, found, depth)) } } } }
            }
        }
    }
}

fn is_over(value: &Value, threshold: &Value) -> bool {
    matches!((value.as_f64(), threshold.as_f64()), (Some(value), Some(threshold)) if value > threshold)
}

/// A value, with its size in words if its name says that it is one.
fn field(name: &str, found: &Value, depth: usize) -> Markup {
    match found.as_u64() {
        Some(bytes) if name.ends_with("_bytes") && bytes >= 1024 => {
            html! { span title=(bytes) { (bytesize::ByteSize(bytes)) } }
        }
        _ => value(found, depth),
    }
}

fn value(value: &Value, depth: usize) -> Markup {
    match value {
        Value::Null => html! { span.none { "none" } },
        Value::Bool(truth) => html! { (truth) },
        Value::Number(number) => html! { (self::number(number)) },
        Value::String(text) => html! { (visible(&text.chars().take(MAX_TEXT).collect::<String>())) },
        Value::Array(elements) if elements.is_empty() => html! { span.none { "none" } },
        _ if depth >= MAX_DEPTH => html! { span.none { "…" } },
        Value::Array(elements) if elements.iter().all(Value::is_object) => table(elements, depth),
        Value::Array(elements) => html! {
            @for (index, element) in elements.iter().take(MAX_ROWS).enumerate() {
                @if index > 0 { ", " } (self::value(element, depth + 1))
            }
        },
        Value::Object(object) => fields(object, depth + 1),
    }
}

/// Objects of one kind, a row each.
fn table(elements: &[Value], depth: usize) -> Markup {
    let mut columns: Vec<&String> = Vec::new();
    for key in elements.iter().take(MAX_ROWS).filter_map(Value::as_object).flat_map(Map::keys) {
        if !columns.contains(&key) && columns.len() < MAX_COLUMNS {
            columns.push(key);
        }
    }
    html! {
        div.scroll {
            table.data {
                thead { tr { @for column in &columns { th { (visible(column)) } } } }
                tbody {
                    @for element in elements.iter().take(MAX_ROWS) {
                        tr { @for column in &columns { td { @if let Some(found) = element.get(column) { (field(column, found, depth + 1)) } } } }
                    }
                }
            }
        }
    }
}

/// Fractions to two digits; whole numbers in full, in groups of three.
pub(super) fn number(number: &serde_json::Number) -> String {
    let Some(whole) = number.as_i64() else {
        return number.as_f64().map_or_else(
            || number.to_string(),
            |number| {
                let text = format!("{number:.2}");
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            },
        );
    };
    let digits = whole.unsigned_abs().to_string();
    let mut grouped = if whole < 0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && digits.len() > 4 {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_against_their_thresholds() {
        let shown = show(br#"{"a":90.456,"a_threshold":75,"b":1,"b_threshold":2,"lone_threshold":3}"#).into_string();
        assert!(shown.contains(r#"<tr class="over"><th scope="row">a</th><td class="number">90.46</td>"#), "{shown}");
        assert!(shown.contains("lone_threshold") && !shown.contains("a_threshold"), "{shown}");
        assert_eq!(shown.matches("over").count(), 1);
    }

    #[test]
    fn markup_in_data_stays_text() {
        let shown = show(br#"{"<b>":"<script>","list":[{"<i>":"\u202e"}]}"#).into_string();
        assert!(!shown.contains("<script>") && !shown.contains("<b>") && !shown.contains("<i>"), "{shown}");
        assert!(!shown.contains('\u{202e}'));
    }

    #[test]
    fn sizes_are_shown_in_words() {
        let shown = show(br#"{"rss_bytes":2040109465,"list":[{"free_bytes":12}]}"#).into_string();
        assert!(
            shown.contains(r#"<span title="2040109465">1.9 GiB</span>"#) && shown.contains("<td>12</td>"),
            "{shown}"
        );
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(number(&1_234_567.into()), "1\u{202f}234\u{202f}567");
        assert_eq!(number(&(-1234).into()), "-1234");
        assert_eq!(number(&u64::MAX.into()), "18446744073709551616");
    }
}
