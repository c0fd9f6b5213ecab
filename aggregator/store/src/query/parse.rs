//! From text to an expression.
//!
//! ```text
//! any     = all { ("OR" | "||") all }
//! all     = not { ["AND" | "&&"] not }
//! not     = { "NOT" | "!" | "-" | "+" } term
//! term    = "*:*" | "(" any ")" | [field ":"] value | field ":(" any ")"
//! value   = word | phrase | ("[" | "{") bound "TO" bound ("]" | "}") | (">=" | ">" | "<=" | "<") bound
//! ```
//! A backslash takes the character after it as it is.

use super::{Error, MAX_LENGTH, MAX_TERMS};

/// Deepest nesting.
const MAX_DEPTH: usize = 16;

/// A parsed query. `at` is a position in characters, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    Everything,
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Term { field: Option<Name>, value: Value, at: usize },
}

/// The name of a field, as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Name {
    pub text: String,
    /// In characters, counted from 1.
    pub at: usize,
}

/// What a field is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// With wildcards, if `pattern` has any. `text` is without backslashes.
    Word {
        text: String,
        pattern: Option<Vec<Wild>>,
    },
    Phrase(String),
    Range(Bound, Bound),
}

/// A piece of a word with wildcards.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Wild {
    Any,
    One,
    Char(char),
}

/// An end of a range.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    Open,
    Included(String),
    Excluded(String),
}

pub(super) fn parse(text: &str) -> Result<Expression, Error> {
    if text.len() > MAX_LENGTH {
        return Err(Error::new(1, format!("the query has {} bytes: {MAX_LENGTH} are allowed", text.len())));
    }
    let mut parser = Parser { text: text.chars().collect(), at: 0, terms: 0 };
    parser.space();
    if parser.peek().is_none() {
        return Ok(Expression::Everything);
    }
    let expression = parser.any(None, 0)?;
    match parser.peek() {
        None => Ok(expression),
        Some(other) => Err(parser.error(format!("`{other}` has no counterpart"))),
    }
}

struct Parser {
    text: Vec<char>,
    at: usize,
    terms: usize,
}

impl Parser {
    fn any(&mut self, field: Option<&Name>, depth: usize) -> Result<Expression, Error> {
        if depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let mut branches = vec![self.all(field, depth)?];
        while self.operator(&["OR", "||"]) {
            branches.push(self.all(field, depth)?);
        }
        Ok(one_or(branches, Expression::Any))
    }

    fn all(&mut self, field: Option<&Name>, depth: usize) -> Result<Expression, Error> {
        let mut parts = vec![self.not(field, depth)?];
        loop {
            if self.operator(&["AND", "&&"]) {
                parts.push(self.not(field, depth)?);
            } else if self.ends() {
                return Ok(one_or(parts, Expression::All));
            } else {
                parts.push(self.not(field, depth)?);
            }
        }
    }

    fn not(&mut self, field: Option<&Name>, depth: usize) -> Result<Expression, Error> {
        let mut negated = false;
        loop {
            if self.operator(&["NOT"]) || self.take('!') || self.take('-') {
                negated = !negated;
                self.space();
            } else if !self.take('+') {
                break;
            }
        }
        let term = self.term(field, depth)?;
        Ok(if negated { Expression::Not(Box::new(term)) } else { term })
    }

    fn term(&mut self, field: Option<&Name>, depth: usize) -> Result<Expression, Error> {
        self.space();
        if self.take('(') {
            return self.group(field, depth);
        }
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(self.error(format!("more than {MAX_TERMS} terms")));
        }
        let start = self.at;
        if field.is_none() && self.operator(&["*:*"]) {
            return Ok(Expression::Everything);
        }
        if field.is_none()
            && let Some(name) = self.field()
        {
            self.space();
            if self.take('(') {
                return self.group(Some(&name), depth);
            }
            let at = self.at + 1;
            return Ok(Expression::Term { value: self.value(true)?, field: Some(name), at });
        }
        self.at = start;
        Ok(Expression::Term { field: field.cloned(), value: self.value(field.is_some())?, at: start + 1 })
    }

    /// After an opening parenthesis.
    fn group(&mut self, field: Option<&Name>, depth: usize) -> Result<Expression, Error> {
        let open = self.at;
        let inner = self.any(field, depth + 1)?;
        self.space();
        if !self.take(')') {
            return Err(Error::new(open, "`(` is never closed"));
        }
        self.space();
        Ok(inner)
    }

    /// A name and its colon, or nothing.
    fn field(&mut self) -> Option<Name> {
        let at = self.at + 1;
        let mut text = String::new();
        loop {
            match self.peek()? {
                ':' if !text.is_empty() => {
                    self.at += 1;
                    return Some(Name { text, at });
                }
                '\\' => text.push(self.escaped().ok()?),
                c if c.is_alphanumeric() || "._-/@".contains(c) => text.push(c),
                _ => return None,
            }
            self.at += 1;
        }
    }

    fn value(&mut self, named: bool) -> Result<Value, Error> {
        match self.peek() {
            Some('"') => self.phrase().map(Value::Phrase),
            Some('[' | '{') if named => self.range(),
            Some('<' | '>') if named => self.comparison(),
            _ => self.word(named),
        }
    }

    fn comparison(&mut self) -> Result<Value, Error> {
        let above = self.take('>') || !self.take('<');
        let included = self.take('=');
        self.space();
        let bound = self.bound()?;
        let bound = if included { Bound::Included(bound) } else { Bound::Excluded(bound) };
        self.space();
        Ok(if above { Value::Range(bound, Bound::Open) } else { Value::Range(Bound::Open, bound) })
    }

    fn range(&mut self) -> Result<Value, Error> {
        let open = self.at + 1;
        let lower: fn(String) -> Bound = if self.take('[') {
            Bound::Included
        } else {
            self.take('{');
            Bound::Excluded
        };
        self.space();
        let from = self.bound()?;
        self.space();
        if !self.operator(&["TO"]) {
            return Err(self.error("a range has the form [from TO to]"));
        }
        let to = self.bound()?;
        self.space();
        let upper: fn(String) -> Bound = if self.take(']') {
            Bound::Included
        } else if self.take('}') {
            Bound::Excluded
        } else {
            return Err(Error::new(open, "the range is never closed"));
        };
        self.space();
        let open = |text: String, bound: fn(String) -> Bound| if text == "*" { Bound::Open } else { bound(text) };
        Ok(Value::Range(open(from, lower), open(to, upper)))
    }

    fn bound(&mut self) -> Result<String, Error> {
        if self.peek() == Some('"') {
            return self.phrase();
        }
        let mut text = String::new();
        while let Some(c) = self.peek() {
            match c {
                '\\' => text.push(self.escaped()?),
                c if c.is_whitespace() || "()[]{}\"".contains(c) => break,
                c => text.push(c),
            }
            self.at += 1;
        }
        if text.is_empty() { Err(self.error("a value is missing")) } else { Ok(text) }
    }

    fn phrase(&mut self) -> Result<String, Error> {
        let open = self.at + 1;
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                None => return Err(Error::new(open, "`\"` is never closed")),
                Some('"') => break,
                Some('\\') => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
            self.at += 1;
        }
        self.at += 1;
        self.space();
        Ok(text)
    }

    fn word(&mut self, named: bool) -> Result<Value, Error> {
        let start = self.at;
        let mut pieces = Vec::new();
        let mut wild = false;
        while let Some(c) = self.peek() {
            match c {
                '\\' => pieces.push(Wild::Char(self.escaped()?)),
                '*' | '?' => {
                    wild = true;
                    pieces.push(if c == '*' { Wild::Any } else { Wild::One });
                }
                c if c.is_whitespace() || "()[]{}\"".contains(c) => break,
                ':' if !named => return Err(self.error("`:` must follow the name of a field, or be quoted")),
                c => pieces.push(Wild::Char(c)),
            }
            self.at += 1;
        }
        let raw: String = self.text[start..self.at].iter().collect();
        if pieces.is_empty() {
            return Err(match self.peek() {
                None => self.error("the query ends where a term is missing"),
                Some(c) => self.error(format!("`{c}` stands where a term is missing")),
            });
        }
        if ["AND", "OR", "NOT", "TO", "&&", "||"].contains(&&*raw) {
            return Err(Error::new(
                start + 1,
                format!("`{raw}` stands where a term is missing: quote it if it is one"),
            ));
        }
        self.space();
        let text = pieces.iter().map(|piece| match piece {
            Wild::Any => '*',
            Wild::One => '?',
            Wild::Char(c) => *c,
        });
        Ok(Value::Word { text: text.collect(), pattern: wild.then_some(pieces) })
    }

    fn operator(&mut self, words: &[&str]) -> bool {
        self.space();
        for word in words {
            let end = self.at + word.chars().count();
            let here = self.text.get(self.at..end).is_some_and(|text| text.iter().copied().eq(word.chars()));
            let apart = ["&&", "||"].contains(word)
                || self.text.get(end).is_none_or(|c| c.is_whitespace() || "()\"[{".contains(*c));
            if here && apart {
                self.at = end;
                self.space();
                return true;
            }
        }
        false
    }

    /// Whether nothing follows that belongs to this level.
    fn ends(&mut self) -> bool {
        self.space();
        let start = self.at;
        let or = self.operator(&["OR", "||"]);
        self.at = start;
        or || matches!(self.peek(), None | Some(')' | ']' | '}'))
    }

    /// What stands behind a backslash. Goes as far as that, not beyond.
    fn escaped(&mut self) -> Result<char, Error> {
        let escaped = self.text.get(self.at + 1).copied();
        let escaped = escaped.ok_or_else(|| self.error("a backslash ends the query: write `\\\\` for itself"))?;
        self.at += 1;
        Ok(escaped)
    }

    fn take(&mut self, c: char) -> bool {
        let here = self.peek() == Some(c);
        self.at += usize::from(here);
        here
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::new(self.at + 1, message)
    }
}

fn one_or(mut parts: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            many(parts)
        }
        None => Expression::Everything,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(text: &str) -> String {
        fn show(expression: &Expression) -> String {
            let list = |parts: &[Expression]| parts.iter().map(show).collect::<Vec<_>>().join(" ");
            match expression {
                Expression::Everything => "*".into(),
                Expression::All(parts) => format!("(all {})", list(parts)),
                Expression::Any(parts) => format!("(any {})", list(parts)),
                Expression::Not(inner) => format!("(not {})", show(inner)),
                Expression::Term { field, value, .. } => {
                    let field = field.as_ref().map(|name| format!("{}:", name.text)).unwrap_or_default();
                    match value {
                        Value::Word { text, pattern } => {
                            format!("{field}{text}{}", if pattern.is_some() { "~" } else { "" })
                        }
                        Value::Phrase(text) => format!("{field}{text:?}"),
                        Value::Range(from, to) => format!("{field}{from:?}..{to:?}"),
                    }
                }
            }
        }
        parse(text).map_or_else(|error| error.to_string(), |expression| show(&expression))
    }

    #[test]
    fn precedence_is_or_then_and_then_not() {
        assert_eq!(shape("  "), "*");
        assert_eq!(shape("a b OR c AND NOT d"), "(any (all a b) (all c (not d)))");
        assert_eq!(shape("a AND (b OR c) -d"), "(all a (any b c) (not d))");
        assert_eq!(shape("x:(a OR \"b c\") !y:d*"), "(all (any x:a x:\"b c\") (not y:d*~))");
        assert_eq!(shape("a && b || c"), "(any (all a b) c)");
        assert_eq!(shape("ORDER ANDROID"), "(all ORDER ANDROID)");
        assert_eq!(shape("*:* AND (*:*)"), "(all * *)");
    }

    #[test]
    fn values_have_many_forms() {
        assert_eq!(shape("a:>=5"), "a:Included(\"5\")..Open");
        assert_eq!(shape("a:< -5.5 b"), "(all a:Open..Excluded(\"-5.5\") b)");
        assert_eq!(shape("a:[1 TO *}"), "a:Included(\"1\")..Open");
        assert_eq!(shape("a:{\"x y\" TO z]"), "a:Excluded(\"x y\")..Included(\"z\")");
        assert_eq!(shape("time:2026-11-22T10:00:00Z"), "time:2026-11-22T10:00:00Z");
        assert_eq!(shape(r"a\:b\*"), "a:b*");
        assert_eq!(shape("container.cgroup:/docker/*"), "container.cgroup:/docker/*~");
        assert_eq!(shape("id:web-1/00c0ffee00c0ffee/42"), "id:web-1/00c0ffee00c0ffee/42");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, at) in [
            ("tracer:", 8),
            ("a AND", 6),
            ("(a OR b", 1),
            ("a)", 2),
            ("x:[1 2]", 6),
            ("x:[1 TO 2", 3),
            ("\"abc", 1),
            ("OR a", 1),
            ("a ~ :b", 5),
            ("é é (", 6),
            ("\\", 1),
            ("tracer:cpu\\", 11),
            ("x:[1 TO 2\\", 10),
            ("x:\"a\\", 5),
            ("x\\", 2),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
        }
        assert!(parse(&"a ".repeat(MAX_TERMS)).is_ok());
        assert!(parse(&"a ".repeat(MAX_TERMS + 1)).is_err());
        assert!(parse(&"(".repeat(MAX_LENGTH)).is_err());
        assert!(parse(&"a".repeat(MAX_LENGTH + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([a-z.:*?()\\[\\]{}\"<>=!+\\\\ -]|AND |OR |NOT |TO |\\PC){0,40}\\\\?") {
            if let Err(error) = crate::Query::parse(&text, 0) {
                prop_assert!(error.at >= 1);
                prop_assert!(error.at <= text.chars().count() + 1, "{}", error);
            }
        }
    }
}
