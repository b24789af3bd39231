//! The text form of label selectors, read as upstream reads it, with its messages.
//!
//! ```
//! use rkube_api::meta::label_parser::parse;
//! assert_eq!(parse("a in (b").unwrap_err().to_string(), "unable to parse requirement: found '', expected: ',' or ')'");
//! assert_eq!(parse("a,b=c").map(|r| r.len()), Ok(2));
//! ```

use super::labels::{LabelSelectorError, Operator, Requirement, check_key};
use super::validation::{ErrorList, FieldPath};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    End,
    Close,
    Open,
    Comma,
    Not,
    Identifier,
    Op(Operator),
    Error,
}

/// Reads the requirements of a selector, in the order written.
pub fn parse(text: &str) -> Result<Vec<Requirement>, LabelSelectorError> {
    let mut parser = Parser { tokens: scan(text), at: 0 };
    let mut requirements = Vec::new();
    loop {
        let (token, literal) = parser.peek();
        match token {
            Token::End => return Ok(requirements),
            Token::Identifier | Token::Not => {
                let requirement = parser.requirement().map_err(|e| LabelSelectorError::In(Box::new(e)))?;
                requirements.push(requirement);
                match parser.next() {
                    (Token::End, _) => return Ok(requirements),
                    (Token::Comma, _) => {
                        let (token, literal) = parser.peek();
                        if !matches!(token, Token::Identifier | Token::Not) {
                            return Err(found(literal, ", expected: identifier after ','"));
                        }
                    }
                    (_, literal) => return Err(found(literal, ", expected: ',' or 'end of string'")),
                }
            }
            _ => return Err(found(literal, ", expected: !, identifier, or 'end of string'")),
        }
    }
}

fn found(literal: &str, rest: &str) -> LabelSelectorError {
    LabelSelectorError::Syntax(format!("found '{literal}'{rest}"))
}

fn special(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn symbol(text: &str) -> Option<Token> {
    Some(match text {
        ")" => Token::Close,
        "(" => Token::Open,
        "," => Token::Comma,
        "!" => Token::Not,
        "==" => Token::Op(Operator::DoubleEquals),
        "=" => Token::Op(Operator::Equals),
        "!=" => Token::Op(Operator::NotEquals),
        ">" => Token::Op(Operator::Gt),
        "<" => Token::Op(Operator::Lt),
        _ => return None,
    })
}

fn scan(text: &str) -> Vec<(Token, String)> {
    let mut tokens = Vec::new();
    // Upstream ends at a NUL, as at the end.
    let mut rest = text.split('\0').next().unwrap_or_default();
    loop {
        rest = rest.trim_start_matches(blank);
        let Some(first) = rest.chars().next() else {
            tokens.push((Token::End, String::new()));
            return tokens;
        };
        let length = if special(first) {
            // The longest operator that stands here.
            (1..=2).rev().find(|n| rest.get(..*n).is_some_and(|s| symbol(s).is_some())).unwrap_or(1)
        } else {
            rest.find(|c| special(c) || blank(c)).unwrap_or(rest.len())
        };
        let (literal, after) = rest.split_at(length);
        let token = match literal {
            "in" => Token::Op(Operator::In),
            "notin" => Token::Op(Operator::NotIn),
            _ if special(first) => symbol(literal).unwrap_or(Token::Error),
            _ => Token::Identifier,
        };
        tokens.push((token, literal.to_string()));
        rest = after;
    }
}

struct Parser {
    tokens: Vec<(Token, String)>,
    at: usize,
}

impl Parser {
    fn raw(&self) -> (Token, &str) {
        // The last token is the end, and nothing follows it.
        let at = self.at.min(self.tokens.len() - 1);
        let (token, literal) = &self.tokens[at];
        (*token, literal)
    }

    /// What stands here, `in` and `notin` being plain words except where an operator is wanted.
    fn peek(&self) -> (Token, &str) {
        match self.raw() {
            (Token::Op(Operator::In | Operator::NotIn), literal) => (Token::Identifier, literal),
            other => other,
        }
    }

    fn next(&mut self) -> (Token, &str) {
        self.at += 1;
        let at = (self.at - 1).min(self.tokens.len() - 1);
        let (token, literal) = &self.tokens[at];
        match token {
            Token::Op(Operator::In | Operator::NotIn) => (Token::Identifier, literal),
            other => (*other, literal),
        }
    }

    fn requirement(&mut self) -> Result<Requirement, LabelSelectorError> {
        let mut absent = false;
        if self.peek().0 == Token::Not {
            absent = true;
            self.next();
        }
        let (token, literal) = self.next();
        if token != Token::Identifier {
            return Err(found(literal, ", expected: identifier"));
        }
        let key = literal.to_string();
        let mut errors = ErrorList::new();
        check_key(&key, &FieldPath::new("<nil>"), &mut errors);
        errors.into_result().map_err(LabelSelectorError::Requirement)?;
        if absent {
            return Requirement::new(key, Operator::DoesNotExist, [""; 0]);
        }
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, [""; 0]);
        }
        let op = self.operator()?;
        let values = match op {
            Operator::In | Operator::NotIn => self.values()?,
            _ => vec![self.exact_value()?],
        };
        Requirement::new(key, op, values)
    }

    fn operator(&mut self) -> Result<Operator, LabelSelectorError> {
        let (token, literal) = self.raw();
        let Token::Op(op) = token else {
            return Err(found(literal, ", expected: in, notin, =, ==, !=, gt, lt"));
        };
        self.at += 1;
        Ok(op)
    }

    fn exact_value(&mut self) -> Result<String, LabelSelectorError> {
        if matches!(self.peek().0, Token::End | Token::Comma) {
            return Ok(String::new());
        }
        match self.next() {
            (Token::Identifier, literal) => Ok(literal.to_string()),
            (_, literal) => Err(found(literal, ", expected: identifier")),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, LabelSelectorError> {
        let (token, literal) = self.next();
        if token != Token::Open {
            return Err(found(literal, " expected: '('"));
        }
        match self.peek() {
            (Token::Identifier | Token::Comma, _) => {
                let values = self.list()?;
                self.next();
                Ok(values)
            }
            (Token::Close, _) => {
                self.next();
                Ok(vec![String::new()])
            }
            (_, literal) => Err(found(literal, ", expected: ',', ')' or identifier")),
        }
    }

    /// The values up to the closing parenthesis, an empty one where two commas meet.
    fn list(&mut self) -> Result<Vec<String>, LabelSelectorError> {
        let mut values = Vec::new();
        loop {
            let (token, literal) = self.next();
            match token {
                Token::Identifier => {
                    values.push(literal.to_string());
                    match self.peek() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, literal) => return Err(found(literal, ", expected: ',' or ')'")),
                    }
                }
                Token::Comma => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    match self.peek().0 {
                        Token::Close => {
                            values.push(String::new());
                            return Ok(values);
                        }
                        Token::Comma => values.push(String::new()),
                        _ => {}
                    }
                }
                _ => return Err(found(literal, ", expected: ',', or identifier")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refusals_read_as_upstream() {
        for (text, want) in [
            ("=a", "found '=', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("!a=b", "found '=', expected: ',' or 'end of string'"),
            ("a=(", "unable to parse requirement: found '(', expected: identifier"),
            ("a in b", "unable to parse requirement: found 'b' expected: '('"),
            ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
            ("a in (b,=", "unable to parse requirement: found '=', expected: ',', or identifier"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), want, "{text}");
        }
        let bad = parse("a=^").unwrap_err().to_string();
        assert!(
            bad.starts_with(
                "unable to parse requirement: values[0][a]: Invalid value: \"^\": a valid label must be"
            ),
            "{bad}"
        );
    }

    #[test]
    fn odd_but_legal() {
        for (text, want) in [
            ("in in (in,notin)", "in in (in,notin)"),
            ("a in (,b,)", "a in (,b)"),
            ("  a  ==b ", "a==b"),
            ("a=", "a="),
            ("x in (a,,b)", "x in (,a,b)"),
        ] {
            let texts: Vec<String> = parse(text).unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(texts.join(","), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[a-c=!(),<> in\\x00é]{0,24}") {
            let _ = parse(&text);
        }
    }
}
