//! Which containers events are wanted of: include and exclude, as lists of rules.
//!
//! A rule names what a container must have; all that it names must match. A container is selected if a rule of
//! `include` matches, or there is none, and no rule of `exclude` does. What is not known of a container matches
//! nothing: until it is described, a rule on its labels neither includes nor excludes it.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de, de::value::MapAccessDeserializer};

use super::Qos;

/// A rule as it is written: a table, or a text for its `cgroup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rule(Table);

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Table {
    /// Regular expression that is found in the cgroup's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<Pattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<Pattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<Pattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<Pattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Pattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<Pattern>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qos: Option<Qos>,
    /// By label, a regular expression for its whole value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, Pattern>,
}

// It is read only if it is one, so that an error has its place.
/// Regular expression for the whole text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
struct Pattern(String);

/// What is wrong with a list of rules.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRule {
    #[error("`{field}` in rule {number} of `{list}` is a regular expression that is wrong: {source}")]
    Pattern {
        list: &'static str,
        number: usize,
        field: String,
        #[source]
        source: regex::Error,
    },
}

/// Validated. The default selects everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    include: Vec<Compiled>,
    exclude: Vec<Compiled>,
}

/// What rules are held against. Empty text is what is not known.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    pub cgroup: &'a str,
    pub namespace: &'a str,
    pub pod: &'a str,
    pub name: &'a str,
    pub image: &'a str,
    pub runtime: &'a str,
    pub qos: Option<Qos>,
    pub labels: &'a HashMap<String, String>,
}

type Text = for<'a> fn(&Facts<'a>) -> &'a str;

#[derive(Debug, Clone)]
struct Compiled {
    cgroup: Option<Regex>,
    texts: Vec<(Text, Regex)>,
    qos: Option<Qos>,
    labels: Vec<(String, Regex)>,
}

impl Filter {
    pub fn new(include: &[Rule], exclude: &[Rule]) -> Result<Self, InvalidRule> {
        Ok(Self { include: compile("include", include)?, exclude: compile("exclude", exclude)? })
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    pub fn selects(&self, facts: &Facts) -> bool {
        let any = |rules: &[Compiled]| rules.iter().any(|rule| rule.matches(facts));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }

    /// Whether the container whose cgroup this is may be selected, whatever else it turns out to be.
    pub fn may_select(&self, cgroup: &str) -> bool {
        let included = self.include.is_empty() || self.include.iter().any(|rule| rule.finds(cgroup));
        included && !self.exclude.iter().any(|rule| rule.is_of_cgroup_alone() && rule.finds(cgroup))
    }
}

impl Compiled {
    fn matches(&self, facts: &Facts) -> bool {
        let known = |text: &str, regex: &Regex| !text.is_empty() && regex.is_match(text);
        self.finds(facts.cgroup)
            && self.texts.iter().all(|(text, regex)| known(text(facts), regex))
            && self.qos.is_none_or(|qos| facts.qos == Some(qos))
            && self.labels.iter().all(|(key, regex)| facts.labels.get(key).is_some_and(|value| regex.is_match(value)))
    }

    fn finds(&self, cgroup: &str) -> bool {
        self.cgroup.as_ref().is_none_or(|regex| regex.is_match(cgroup))
    }

    fn is_of_cgroup_alone(&self) -> bool {
        self.texts.is_empty() && self.qos.is_none() && self.labels.is_empty()
    }
}

fn compile(list: &'static str, rules: &[Rule]) -> Result<Vec<Compiled>, InvalidRule> {
    let compile = |(index, Rule(table)): (usize, &Rule)| {
        let regex = |field: &str, text: &str| {
            let invalid = |source| InvalidRule::Pattern { list, number: index + 1, field: field.into(), source };
            Regex::new(text).map_err(invalid)
        };
        let whole = |field: &str, Pattern(text): &Pattern| regex(field, &format!("^(?:{text})$"));
        let texts: [(_, _, Text); 5] = [
            ("namespace", &table.namespace, |facts| facts.namespace),
            ("pod", &table.pod, |facts| facts.pod),
            ("name", &table.name, |facts| facts.name),
            ("image", &table.image, |facts| facts.image),
            ("runtime", &table.runtime, |facts| facts.runtime),
        ];
        let texts = texts.into_iter().filter_map(|(field, text, of)| Some((field, text.as_ref()?, of)));
        let labels = table.labels.iter();
        Ok(Compiled {
            cgroup: table.cgroup.as_ref().map(|Pattern(text)| regex("cgroup", text)).transpose()?,
            texts: texts.map(|(field, text, of)| Ok((of, whole(field, text)?))).collect::<Result<_, _>>()?,
            qos: table.qos,
            labels: labels
                .map(|(key, text)| Ok((key.clone(), whole(&format!("labels.{key}"), text)?)))
                .collect::<Result<_, _>>()?,
        })
    };
    rules.iter().enumerate().map(compile).collect()
}

impl Pattern {
    fn new<E: de::Error>(text: &str) -> Result<Self, E> {
        match Regex::new(text) {
            Ok(_) => Ok(Self(text.into())),
            Err(error) => {
                // Its last line says what, the others show where.
                let error = error.to_string();
                let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                Err(de::Error::custom(format!("`{text}` is no regular expression: {why}")))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?)
    }
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Rule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a regular expression for the cgroup's path, or a table of what a container must have")
            }

            fn visit_str<E: de::Error>(self, cgroup: &str) -> Result<Rule, E> {
                Ok(Rule(Table { cgroup: Some(Pattern::new(cgroup)?), ..Table::default() }))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Rule, A::Error> {
                match Table::deserialize(MapAccessDeserializer::new(map))? {
                    nothing if nothing == Table::default() => {
                        Err(de::Error::custom("the rule names nothing that a container must have"))
                    }
                    table => Ok(Rule(table)),
                }
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Rule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ContainerRule".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, Table::json_schema(generator)] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(toml: &str) -> Result<Vec<Rule>, toml::de::Error> {
        #[derive(Deserialize)]
        struct List {
            rules: Vec<Rule>,
        }
        toml::from_str::<List>(&format!("rules = {toml}")).map(|list| list.rules)
    }

    fn rules(toml: &str) -> Vec<Rule> {
        read(toml).unwrap()
    }

    fn filter(include: &str, exclude: &str) -> Filter {
        Filter::new(&rules(include), &rules(exclude)).unwrap()
    }

    fn labels() -> HashMap<String, String> {
        [("app".to_owned(), "cart".to_owned())].into()
    }

    fn facts<'a>(cgroup: &'a str, labels: &'a HashMap<String, String>) -> Facts<'a> {
        Facts { cgroup, namespace: "", pod: "", name: "", image: "", runtime: "", qos: None, labels }
    }

    #[test]
    fn include_narrows_and_exclude_takes_away() {
        let cases = [
            ("[]", "[]", true),
            ("['^/kubepods/']", "[]", true),
            ("['^/docker/']", "[]", false),
            ("[{ namespace = 'shop' }]", "[{ name = 'sidecar' }]", true),
            ("[{ namespace = 'shop' }]", "[{ name = 'app' }]", false),
            ("[{ namespace = 'sho' }]", "[]", false),
            ("[{ namespace = 'sho.' }, { name = 'other' }]", "[]", true),
            ("[]", "[{ qos = 'Burstable' }]", false),
            ("[]", "[{ qos = 'BestEffort' }]", true),
            ("[]", "[{ labels = { app = 'cart|till' } }]", false),
            ("[]", "[{ labels = { team = '.*' } }]", true),
            // All that a rule names must match.
            ("[]", "[{ qos = 'Burstable', namespace = 'other' }]", true),
            ("[]", "[{ qos = 'Burstable', cgroup = 'podx', labels = { app = 'cart' } }]", false),
        ];
        for (include, exclude, selected) in cases {
            let labels = labels();
            let of_pod = facts("/kubepods/burstable/podx/y", &labels);
            let container = Facts { namespace: "shop", name: "app", qos: Some(Qos::Burstable), ..of_pod };
            assert_eq!(filter(include, exclude).selects(&container), selected, "{include} {exclude}");
        }
    }

    #[test]
    fn what_is_not_known_is_neither_included_nor_excluded() {
        let none = HashMap::new();
        let unknown = facts("/docker/x", &none);
        assert!(filter("[]", "[{ labels = { app = '.*' } }]").selects(&unknown));
        assert!(filter("[]", "[{ namespace = '.*' }]").selects(&unknown));
        assert!(!filter("[{ namespace = 'shop' }]", "[]").selects(&unknown));
    }

    #[test]
    fn a_cgroup_that_no_description_can_select_is_told_by_its_path() {
        assert!(!filter("['^/docker/']", "[]").may_select("/a"));
        assert!(!filter("[]", "['^/a']").may_select("/a"));
        assert!(filter("[]", "[{ cgroup = '^/a', name = 'x' }]").may_select("/a"));
        assert!(filter("[{ name = 'x' }]", "[]").may_select("/a"));
    }

    #[test]
    fn a_rule_that_is_wrong_is_not_read() {
        let cases = [
            ("['a', '(']", "`(` is no regular expression: unclosed group"),
            ("[{ labels = { app = '[' } }]", "`[` is no regular expression: unclosed character class"),
            // Closing the group that is put around it is no way out.
            ("[{ name = 'a)|(b' }]", "`a)|(b` is no regular expression: unopened group"),
            ("[{}]", "the rule names nothing that a container must have"),
            ("[{ nmae = 'x' }]", "unknown field `nmae`"),
            ("[{ qos = 'Best' }]", "unknown variant `Best`, expected one of `Guaranteed`, `Burstable`, `BestEffort`"),
        ];
        for (text, error) in cases {
            let read = read(text).unwrap_err();
            assert!(read.message().starts_with(error), "{text}: {read}");
        }
    }
}
