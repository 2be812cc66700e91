//! The cluster query language of `memberOf` placement constraints ("Create expressions to define container instances
//! for Amazon ECS tasks", ECS developer guide): parsed once, evaluated against a node's attributes.
//!
//! Regular expressions (`=~`, `!~`) are not supported: [`parse`] refuses them by name.

use std::collections::BTreeMap;

/// A parsed expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Both.
    And(Box<Expr>, Box<Expr>),
    /// Either.
    Or(Box<Expr>, Box<Expr>),
    /// Not.
    Not(Box<Expr>),
    /// The attribute is there.
    Exists(String),
    /// The attribute is there and is one of these.
    In(String, Vec<String>),
    /// Both sides are numbers and compare so.
    Order(String, Order, i64),
}

/// How two numbers compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `<`
    Less,
    /// `<=`
    AtMost,
}

impl Expr {
    /// Whether attributes (`attribute:name` or a bare subject such as `task:group`, each with all its values) match.
    pub fn matches(&self, attributes: &BTreeMap<String, Vec<String>>) -> bool {
        match self {
            Expr::And(a, b) => a.matches(attributes) && b.matches(attributes),
            Expr::Or(a, b) => a.matches(attributes) || b.matches(attributes),
            Expr::Not(a) => !a.matches(attributes),
            Expr::Exists(name) => attributes.contains_key(name),
            Expr::In(name, values) => {
                attributes.get(name).is_some_and(|have| have.iter().any(|v| values.contains(v)))
            }
            Expr::Order(name, order, number) => attributes.get(name).is_some_and(|have| {
                have.iter().filter_map(|v| v.parse::<i64>().ok()).any(|v| match order {
                    Order::Greater => v > *number,
                    Order::AtLeast => v >= *number,
                    Order::Less => v < *number,
                    Order::AtMost => v <= *number,
                })
            }),
        }
    }
}

/// The longest expression, characters (cluster query language, ECS developer guide).
const LENGTH_MAX: usize = 2000;
/// How deep parentheses and negations may nest: each takes stack.
const DEPTH_MAX: usize = 100;

/// Parses an expression. The error names what is wrong, for people.
pub fn parse(text: &str) -> Result<Expr, String> {
    if text.chars().count() > LENGTH_MAX {
        return Err(format!("the expression is longer than {LENGTH_MAX} characters"));
    }
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let expr = parser.or()?;
    match parser.peek() {
        None => Ok(expr),
        Some(extra) => Err(format!("unexpected '{extra}' in expression '{text}'")),
    }
}

fn tokens(text: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '(' | ')' | '[' | ']' | ',' => 1,
            '"' | '\'' => {
                let end =
                    rest[1..].find(first).ok_or_else(|| format!("unclosed quote in expression '{text}'"))?;
                all.push(rest[1..=end].to_owned());
                rest = rest[end + 2..].trim_start();
                continue;
            }
            '=' | '!' | '<' | '>' | '&' | '|' => {
                let two = rest.get(..2).unwrap_or_default();
                if matches!(two, "==" | "!=" | ">=" | "<=" | "&&" | "||" | "=~" | "!~") { 2 } else { 1 }
            }
            _ => rest.find(|c: char| c.is_whitespace() || "()[],=!<>&|\"'".contains(c)).unwrap_or(rest.len()),
        };
        all.push(rest[..len].to_owned());
        rest = rest[len..].trim_start();
    }
    Ok(all)
}

struct Parser {
    tokens: Vec<String>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.at).map(String::as_str)
    }

    fn take(&mut self, any: &[&str]) -> bool {
        let hit = self.peek().is_some_and(|t| any.contains(&t));
        self.at += usize::from(hit);
        hit
    }

    fn word(&mut self) -> Result<String, String> {
        let word = self.tokens.get(self.at).cloned().ok_or("the expression ends too early")?;
        self.at += 1;
        Ok(word)
    }

    fn or(&mut self) -> Result<Expr, String> {
        let mut left = self.and()?;
        while self.take(&["||", "or"]) {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, String> {
        let mut left = self.unary()?;
        while self.take(&["&&", "and"]) {
            left = Expr::And(Box::new(left), Box::new(self.unary()?));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expr, String> {
        if self.take(&["!", "not"]) {
            let inner = self.nested(Parser::unary)?;
            return Ok(Expr::Not(Box::new(inner)));
        }
        if self.take(&["("]) {
            let inner = self.nested(Parser::or)?;
            return if self.take(&[")"]) {
                Ok(inner)
            } else {
                Err("a closing parenthesis is missing".into())
            };
        }
        self.comparison()
    }

    fn nested(&mut self, read: fn(&mut Parser) -> Result<Expr, String>) -> Result<Expr, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("the expression nests deeper than {DEPTH_MAX}"));
        }
        let inner = read(self)?;
        self.depth -= 1;
        Ok(inner)
    }

    fn comparison(&mut self) -> Result<Expr, String> {
        let subject = self.word()?;
        if !known_subject(&subject) {
            return Err(format!("unknown subject '{subject}'"));
        }
        let negated = self.take(&["!"]);
        let operator = self.word()?;
        let expr = match operator.as_str() {
            "exists" => Expr::Exists(subject),
            "not_exists" => Expr::Not(Box::new(Expr::Exists(subject))),
            "==" | "equals" => Expr::In(subject, vec![self.word()?]),
            "!=" | "not_equals" => Expr::Not(Box::new(Expr::In(subject, vec![self.word()?]))),
            "in" => Expr::In(subject, self.list()?),
            "not_in" => Expr::Not(Box::new(Expr::In(subject, self.list()?))),
            ">" | "greater_than" => Expr::Order(subject, Order::Greater, self.number()?),
            ">=" | "greater_than_equal" => Expr::Order(subject, Order::AtLeast, self.number()?),
            "<" | "less_than" => Expr::Order(subject, Order::Less, self.number()?),
            "<=" | "less_than_equal" => Expr::Order(subject, Order::AtMost, self.number()?),
            "=~" | "!~" | "matches" | "not_matches" => {
                return Err(format!("operator '{operator}' (regular expressions) is not supported"));
            }
            other => return Err(format!("unknown operator '{other}'")),
        };
        match (negated, operator.as_str()) {
            (false, _) => Ok(expr),
            (true, "in" | "exists") => Ok(Expr::Not(Box::new(expr))),
            (true, other) => Err(format!("unknown operator '!{other}'")),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, String> {
        if !self.take(&["["]) {
            return Err("a list in [ ] is expected after in".into());
        }
        let mut all = vec![self.word()?];
        while self.take(&[","]) {
            all.push(self.word()?);
        }
        if self.take(&["]"]) { Ok(all) } else { Err("a closing bracket is missing".into()) }
    }

    fn number(&mut self) -> Result<i64, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("'{word}' is not a number"))
    }
}

/// The subjects that a node has an answer for.
fn known_subject(subject: &str) -> bool {
    subject.strip_prefix("attribute:").is_some_and(|name| !name.is_empty())
        || matches!(subject, "ec2InstanceId" | "runningTasksCount" | "task:group")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: bool) {
        let attributes = BTreeMap::from([
            ("attribute:ecs.availability-zone".to_owned(), vec!["us-east-1a".to_owned()]),
            ("attribute:ecs.os-type".to_owned(), vec!["linux".to_owned()]),
            ("runningTasksCount".to_owned(), vec!["3".to_owned()]),
            ("task:group".to_owned(), vec!["service:web".to_owned(), "service:db".to_owned()]),
        ]);
        assert_eq!(parse(text).unwrap().matches(&attributes), expect, "{text}");
    }

    #[test]
    fn expressions_of_the_guide_evaluate() {
        check("attribute:ecs.os-type == linux", true);
        check("attribute:ecs.os-type == windows", false);
        check("attribute:ecs.os-type != windows", true);
        check("attribute:ecs.availability-zone in [us-east-1a, us-east-1b]", true);
        check("attribute:ecs.availability-zone !in [us-east-1a, us-east-1b]", false);
        check("attribute:stack exists", false);
        check("attribute:stack !exists", true);
        check("not(attribute:stack exists) and attribute:ecs.os-type == linux", true);
        check("attribute:ecs.os-type == linux && (attribute:x == y || runningTasksCount < 4)", true);
        check("runningTasksCount >= 4", false);
        check("task:group == service:db", true);
        check("not(task:group == \"service:other\")", true);
    }

    #[test]
    fn what_would_take_all_of_the_stack_is_refused() {
        let nested = |depth| format!("{}attribute:a exists{}", "(".repeat(depth), ")".repeat(depth));
        assert!(parse(&nested(100)).is_ok());
        assert!(parse(&nested(101)).unwrap_err().contains("nests deeper"));
        assert!(parse(&"!".repeat(1_900)).unwrap_err().contains("nests deeper"));
        let side_by_side = vec!["attribute:a exists"; 100_000].join(" or ");
        assert!(parse(&side_by_side).unwrap_err().contains("longer than 2000"));
        assert!(parse(&"(".repeat(1_000_000)).is_err());
    }

    #[test]
    fn bad_expressions_are_refused_by_name() {
        for (text, word) in [
            ("attribute:a =~ t2.*", "=~"),
            ("color == red", "color"),
            ("attribute:a == ", "early"),
            ("attribute:a in red", "list"),
            ("(attribute:a exists", "parenthesis"),
            ("attribute:a exists x", "'x'"),
            ("runningTasksCount > many", "many"),
            ("", "early"),
            ("attribute:a == 'x", "quote"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
