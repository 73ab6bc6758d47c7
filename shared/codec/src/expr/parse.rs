//! Reads the text of an expression: what TiDB stores for generated columns, expression indexes, partial
//! indexes, CHECK constraints, partitions and expression defaults. Precedence climbing; depth is bounded,
//! so that hostile nesting cannot overflow the stack.

use super::lex::{Lexer, SyntaxError, Token};
use super::tree::{CastName, CastType, Literal, Node, Unit};

/// Nested expressions beyond this are refused.
const DEPTH_MAX: usize = 100;

type Parsed<T = Node> = Result<T, SyntaxError>;

/// Reads one expression; nothing may follow it.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let tokens = Lexer::tokens(text)?;
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
        depth: 0,
    };
    let node = parser.expr(0)?;
    if parser.at < tokens.len() {
        return Err(parser.error());
    }
    Ok(node)
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

const COMPARISON: u8 = 5;
const BIT_OR: u8 = 6;
const ADDITION: u8 = 9;
const TIGHT: u8 = 12;

/// Binding strength and function of a binary operator.
fn operator(token: &Token) -> Option<(u8, &'static str)> {
    Some(match token {
        Token::Op(op) => match *op {
            "||" => (1, "or"),
            "&&" => (3, "and"),
            "=" => (COMPARISON, "eq"),
            "<=>" => (COMPARISON, "nulleq"),
            "<>" | "!=" => (COMPARISON, "ne"),
            "<" => (COMPARISON, "lt"),
            "<=" => (COMPARISON, "le"),
            ">" => (COMPARISON, "gt"),
            ">=" => (COMPARISON, "ge"),
            "|" => (BIT_OR, "bitor"),
            "&" => (7, "bitand"),
            "<<" => (8, "leftshift"),
            ">>" => (8, "rightshift"),
            "+" => (ADDITION, "plus"),
            "-" => (ADDITION, "minus"),
            "*" => (10, "mul"),
            "/" => (10, "div"),
            "%" => (10, "mod"),
            "^" => (11, "bitxor"),
            _ => return None,
        },
        Token::Word(word) => match word.as_str() {
            "or" => (1, "or"),
            "xor" => (2, "xor"),
            "and" => (3, "and"),
            "div" => (10, "intdiv"),
            "mod" => (10, "mod"),
            _ => return None,
        },
        _ => return None,
    })
}

fn negated(not: bool, node: Node) -> Node {
    if not {
        Node::call("not", vec![node])
    } else {
        node
    }
}

impl Parser<'_> {
    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead)
    }

    fn error(&self) -> SyntaxError {
        let shown = match self.peek(0) {
            None => "the end".to_owned(),
            Some(Token::Word(text) | Token::Name(text) | Token::Number(text)) => text.clone(),
            Some(Token::Op(op)) => (*op).to_owned(),
            Some(Token::Str(_) | Token::Bits(_)) => "a literal".to_owned(),
        };
        SyntaxError::near(shown)
    }

    fn is_word(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek(ahead), Some(Token::Word(found)) if found == word)
    }

    fn is_op(&self, ahead: usize, op: &str) -> bool {
        matches!(self.peek(ahead), Some(Token::Op(found)) if *found == op)
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.is_word(0, word);
        self.at += usize::from(found);
        found
    }

    fn eat_op(&mut self, op: &str) -> bool {
        let found = self.is_op(0, op);
        self.at += usize::from(found);
        found
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.eat_word(word) {
            Ok(())
        } else {
            Err(self.error())
        }
    }

    fn expect_op(&mut self, op: &str) -> Parsed<()> {
        if self.eat_op(op) {
            Ok(())
        } else {
            Err(self.error())
        }
    }

    fn expr(&mut self, min: u8) -> Parsed {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(SyntaxError::near("too many nested expressions"));
        }
        let node = self.climb(min);
        self.depth -= 1;
        node
    }

    fn climb(&mut self, min: u8) -> Parsed {
        let mut left = self.unary(min)?;
        loop {
            if min <= COMPARISON {
                left = match self.predicate(left)? {
                    (node, true) => {
                        left = node;
                        continue;
                    }
                    (node, false) => node,
                };
            }
            let Some((power, name)) = self.peek(0).and_then(operator) else {
                return Ok(left);
            };
            if power < min {
                return Ok(left);
            }
            self.at += 1;
            if power == ADDITION && self.eat_word("interval") {
                let (amount, unit) = self.interval()?;
                left = Node::DateArith {
                    minus: name == "minus",
                    date: left.into(),
                    amount: amount.into(),
                    unit,
                };
                continue;
            }
            let right = self.expr(power + 1)?;
            left = Node::call(name, vec![left, right]);
        }
    }

    /// Amount and unit behind INTERVAL.
    fn interval(&mut self) -> Parsed<(Node, Unit)> {
        let amount = self.expr(BIT_OR)?;
        Ok((amount, self.unit()?))
    }

    fn unit(&mut self) -> Parsed<Unit> {
        let Some(Token::Word(word)) = self.peek(0) else {
            return Err(self.error());
        };
        let unit = Unit::from_name(word).ok_or_else(|| self.error())?;
        self.at += 1;
        Ok(unit)
    }

    /// `IS`, `IN`, `BETWEEN`, `LIKE`, `REGEXP`, `MEMBER OF`, `COLLATE` behind `left`; whether there was one.
    fn predicate(&mut self, left: Node) -> Parsed<(Node, bool)> {
        if self.eat_word("is") {
            let not = self.eat_word("not");
            let names = [
                ("null", "isnull"),
                ("unknown", "isnull"),
                ("true", "istrue"),
                ("false", "isfalse"),
            ];
            let found = names.iter().find(|(word, _)| self.is_word(0, word));
            let (_, name) = found.ok_or_else(|| self.error())?;
            self.at += 1;
            return Ok((negated(not, Node::call(name, vec![left])), true));
        }
        if self.eat_word("collate") {
            let collation = self.name()?;
            return Ok((
                Node::Collate {
                    expr: left.into(),
                    collation,
                },
                true,
            ));
        }
        if self.is_word(0, "member") && self.is_word(1, "of") {
            self.at += 2;
            self.expect_op("(")?;
            let array = self.expr(0)?;
            self.expect_op(")")?;
            return Ok((Node::call("json_memberof", vec![left, array]), true));
        }
        let negatable = ["in", "between", "like", "regexp", "rlike"];
        let not = self.is_word(0, "not") && negatable.iter().any(|word| self.is_word(1, word));
        self.at += usize::from(not);
        let node = if self.eat_word("in") {
            self.expect_op("(")?;
            let mut args = vec![left];
            args.extend(self.list()?);
            Node::call("in", args)
        } else if self.eat_word("between") {
            let low = self.expr(BIT_OR)?;
            self.expect_word("and")?;
            let high = self.expr(BIT_OR)?;
            let from = Node::call("ge", vec![left.clone(), low]);
            Node::call("and", vec![from, Node::call("le", vec![left, high])])
        } else if self.eat_word("like") {
            let mut args = vec![left, self.expr(BIT_OR)?];
            if self.eat_word("escape") {
                args.push(self.expr(BIT_OR)?);
            }
            Node::call("like", args)
        } else if self.eat_word("regexp") || self.eat_word("rlike") {
            Node::call("regexp", vec![left, self.expr(BIT_OR)?])
        } else {
            return Ok((left, false));
        };
        Ok((negated(not, node), true))
    }

    fn unary(&mut self, min: u8) -> Parsed {
        if self.is_word(0, "not") && min <= 4 {
            self.at += 1;
            return Ok(Node::call("not", vec![self.expr(4)?]));
        }
        for (op, name) in [("-", "unaryminus"), ("!", "not"), ("~", "bitneg")] {
            if self.eat_op(op) {
                return Ok(Node::call(name, vec![self.expr(TIGHT)?]));
            }
        }
        if self.eat_op("+") {
            return self.expr(TIGHT);
        }
        let closes =
            |token: Option<&Token>| matches!(token, None | Some(Token::Op(")" | "," | ".")));
        if self.is_word(0, "binary") && !closes(self.peek(1)) {
            self.at += 1;
            let to = cast_type(CastName::Binary);
            return Ok(Node::Cast {
                expr: self.expr(TIGHT)?.into(),
                to,
            });
        }
        let mut node = self.primary()?;
        loop {
            let unquote = self.is_op(0, "->>");
            if unquote || self.is_op(0, "->") {
                self.at += 1;
                let path = self.primary()?;
                node = Node::call("json_extract", vec![node, path]);
                if unquote {
                    node = Node::call("json_unquote", vec![node]);
                }
            } else if min > COMPARISON && self.eat_word("collate") {
                let collation = self.name()?;
                node = Node::Collate {
                    expr: node.into(),
                    collation,
                };
            } else {
                return Ok(node);
            }
        }
    }

    /// `expr, expr, …)`.
    fn list(&mut self) -> Parsed<Vec<Node>> {
        let mut items = Vec::new();
        if self.eat_op(")") {
            return Ok(items);
        }
        loop {
            items.push(self.expr(0)?);
            if self.eat_op(")") {
                return Ok(items);
            }
            self.expect_op(",")?;
        }
    }

    /// A word, a quoted name or a string, in lower case.
    fn name(&mut self) -> Parsed<String> {
        let name = match self.peek(0) {
            Some(Token::Word(text) | Token::Name(text)) => text.to_lowercase(),
            Some(Token::Str(bytes)) => String::from_utf8_lossy(bytes).to_lowercase(),
            _ => return Err(self.error()),
        };
        self.at += 1;
        Ok(name)
    }

    fn primary(&mut self) -> Parsed {
        let Some(token) = self.peek(0) else {
            return Err(self.error());
        };
        match token.clone() {
            Token::Number(text) => {
                self.at += 1;
                Ok(Node::Literal(Literal::Number(text)))
            }
            Token::Bits(bytes) => {
                self.at += 1;
                Ok(Node::Literal(Literal::Bits(bytes)))
            }
            Token::Str(bytes) => {
                self.at += 1;
                Ok(self.string(None, bytes))
            }
            Token::Op("(") => {
                self.at += 1;
                let node = self.expr(0)?;
                self.expect_op(")")?;
                Ok(node)
            }
            Token::Name(name) => {
                self.at += 1;
                self.column(name)
            }
            Token::Word(word) => self.word(&word),
            Token::Op(_) => Err(self.error()),
        }
    }

    /// A string literal; adjacent ones are one.
    fn string(&mut self, charset: Option<String>, mut bytes: Vec<u8>) -> Node {
        while let Some(Token::Str(more)) = self.peek(0) {
            bytes.extend_from_slice(more);
            self.at += 1;
        }
        Node::Literal(Literal::Str { charset, bytes })
    }

    /// A column; qualifiers say nothing here.
    fn column(&mut self, mut name: String) -> Parsed {
        while self.eat_op(".") {
            let Some(Token::Word(part) | Token::Name(part)) = self.peek(0) else {
                return Err(self.error());
            };
            name = part.clone();
            self.at += 1;
        }
        Ok(Node::Column(name.to_lowercase()))
    }

    fn word(&mut self, word: &str) -> Parsed {
        self.at += 1;
        let call = self.is_op(0, "(");
        match word {
            "null" => return Ok(Node::Literal(Literal::Null)),
            "true" | "false" if !call => return Ok(Node::Literal(Literal::Bool(word == "true"))),
            "case" => return self.case(),
            "interval" if !call || self.interval_follows() => {
                let (amount, unit) = self.interval()?;
                self.expect_op("+")?;
                let date = self.expr(ADDITION + 1)?.into();
                return Ok(Node::DateArith {
                    minus: false,
                    date,
                    amount: amount.into(),
                    unit,
                });
            }
            "date" | "time" | "timestamp" if self.literal_follows() => {
                let kind = ["date", "time", "timestamp"]
                    .into_iter()
                    .find(|kind| *kind == word);
                if matches!(self.peek(0), Some(Token::Word(_))) {
                    self.at += 1;
                }
                let text = self.text()?;
                return Ok(Node::Literal(Literal::Temporal {
                    kind: kind.unwrap_or("date"),
                    text,
                }));
            }
            "current_timestamp" | "current_date" | "current_time" | "localtime"
            | "localtimestamp" | "utc_timestamp" | "utc_date" | "utc_time" | "current_user"
                if !call =>
            {
                return Ok(Node::call(word, Vec::new()));
            }
            _ => {}
        }
        if let Some(charset) = word.strip_prefix('_') {
            match self.peek(0).cloned() {
                Some(Token::Str(bytes)) => {
                    self.at += 1;
                    return Ok(self.string(Some(charset.to_owned()), bytes));
                }
                Some(Token::Bits(bytes)) => {
                    self.at += 1;
                    let charset = Some(charset.to_owned());
                    return Ok(Node::Literal(Literal::Str { charset, bytes }));
                }
                _ => {}
            }
        }
        if !call {
            return self.column(word.to_owned());
        }
        self.at += 1;
        self.function(word)
    }

    /// Whether what follows INTERVAL and a parenthesis ends in a unit: else it is the function.
    fn interval_follows(&self) -> bool {
        let mut depth = 0usize;
        for (i, token) in self.tokens[self.at..].iter().enumerate() {
            match token {
                Token::Op("(") => depth += 1,
                Token::Op(")") if depth == 1 => {
                    return matches!(self.peek(i + 1), Some(Token::Word(w)) if Unit::from_name(w).is_some());
                }
                Token::Op(")") => depth = depth.saturating_sub(1),
                _ => {}
            }
        }
        false
    }

    fn literal_follows(&self) -> bool {
        let introduced = matches!(self.peek(0), Some(Token::Word(word)) if word.starts_with('_'));
        matches!(self.peek(usize::from(introduced)), Some(Token::Str(_)))
    }

    fn text(&mut self) -> Parsed<String> {
        let Some(Token::Str(bytes)) = self.peek(0) else {
            return Err(self.error());
        };
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.at += 1;
        Ok(text)
    }

    /// CASE becomes `when, then, …[, else]`; an operand is compared with every WHEN.
    fn case(&mut self) -> Parsed {
        let operand = if self.is_word(0, "when") {
            None
        } else {
            Some(self.expr(0)?)
        };
        let mut args = Vec::new();
        while self.eat_word("when") {
            let when = self.expr(0)?;
            args.push(match &operand {
                Some(operand) => Node::call("eq", vec![operand.clone(), when]),
                None => when,
            });
            self.expect_word("then")?;
            args.push(self.expr(0)?);
        }
        if args.is_empty() {
            return Err(self.error());
        }
        if self.eat_word("else") {
            args.push(self.expr(0)?);
        }
        self.expect_word("end")?;
        Ok(Node::call("case", args))
    }

    /// What stands behind `name(`.
    fn function(&mut self, name: &str) -> Parsed {
        match name {
            "cast" => {
                let expr = self.expr(0)?.into();
                self.expect_word("as")?;
                let to = self.cast_type()?;
                self.expect_op(")")?;
                Ok(Node::Cast { expr, to })
            }
            "convert" => {
                let expr = self.expr(0)?.into();
                let node = if self.eat_word("using") {
                    let charset = self.name()?;
                    Node::Using { expr, charset }
                } else {
                    self.expect_op(",")?;
                    let to = self.cast_type()?;
                    Node::Cast { expr, to }
                };
                self.expect_op(")")?;
                Ok(node)
            }
            "extract" => {
                let unit = self.name()?;
                self.expect_word("from")?;
                let expr = self.expr(0)?;
                self.expect_op(")")?;
                Ok(Node::call("extract", vec![Node::text(&unit), expr]))
            }
            "timestampdiff" | "timestampadd" => {
                let unit = self.name()?;
                self.expect_op(",")?;
                let mut args = vec![Node::text(&unit)];
                args.extend(self.list()?);
                Ok(Node::call(name, args))
            }
            "date_add" | "adddate" | "date_sub" | "subdate" => self.date_arith(name),
            "trim" => self.trim(),
            "position" => {
                let needle = self.expr(BIT_OR)?;
                self.expect_word("in")?;
                let text = self.expr(0)?;
                self.expect_op(")")?;
                Ok(Node::call("locate", vec![needle, text]))
            }
            "substring" | "substr" | "mid" => self.substring(),
            "char" | "char_func" => self.char(),
            _ => Ok(Node::call(name, self.list()?)),
        }
    }

    fn date_arith(&mut self, name: &str) -> Parsed {
        let date = self.expr(0)?.into();
        self.expect_op(",")?;
        let (amount, unit) = if self.eat_word("interval") {
            self.interval()?
        } else {
            (self.expr(0)?, Unit::Day)
        };
        self.expect_op(")")?;
        let minus = matches!(name, "date_sub" | "subdate");
        Ok(Node::DateArith {
            minus,
            date,
            amount: amount.into(),
            unit,
        })
    }

    /// `TRIM([[side] [what] FROM] text)` becomes `trim(text, what, side)`.
    fn trim(&mut self) -> Parsed {
        let sides = ["both", "leading", "trailing"];
        let side = sides.into_iter().find(|side| self.is_word(0, side));
        self.at += usize::from(side.is_some());
        let space = || Node::text(" ");
        let (what, text) = if self.eat_word("from") {
            (space(), self.expr(0)?)
        } else {
            let first = self.expr(0)?;
            if self.eat_word("from") {
                (first, self.expr(0)?)
            } else if self.eat_op(",") {
                // The form that a restored text may have.
                (self.expr(0)?, first)
            } else {
                (space(), first)
            }
        };
        self.expect_op(")")?;
        Ok(Node::call(
            "trim",
            vec![text, what, Node::text(side.unwrap_or("both"))],
        ))
    }

    fn substring(&mut self) -> Parsed {
        let mut args = vec![self.expr(0)?];
        if self.eat_word("from") {
            args.push(self.expr(0)?);
            if self.eat_word("for") {
                args.push(self.expr(0)?);
            }
            self.expect_op(")")?;
        } else {
            self.expect_op(",")?;
            args.extend(self.list()?);
        }
        Ok(Node::call("substring", args))
    }

    /// CHAR's charset becomes its first argument.
    fn char(&mut self) -> Parsed {
        let mut args = vec![Node::Literal(Literal::Null), self.expr(0)?];
        while self.eat_op(",") {
            args.push(self.expr(0)?);
        }
        if self.eat_word("using") {
            args[0] = Node::text(&self.name()?);
        }
        self.expect_op(")")?;
        Ok(Node::call("char", args))
    }

    fn cast_type(&mut self) -> Parsed<CastType> {
        const NAMES: [(&str, CastName); 16] = [
            ("signed", CastName::Signed),
            ("unsigned", CastName::Unsigned),
            ("char", CastName::Char),
            ("character", CastName::Char),
            ("nchar", CastName::Char),
            ("varchar", CastName::Char),
            ("binary", CastName::Binary),
            ("decimal", CastName::Decimal),
            ("double", CastName::Double),
            ("real", CastName::Double),
            ("float", CastName::Float),
            ("date", CastName::Date),
            ("datetime", CastName::Datetime),
            ("time", CastName::Time),
            ("year", CastName::Year),
            ("json", CastName::Json),
        ];
        let error = self.error();
        let word = self.name()?;
        let (_, name) = *NAMES
            .iter()
            .find(|(known, _)| *known == word)
            .ok_or(error)?;
        if !self.eat_word("integer") {
            self.eat_word("int");
        }
        let mut to = cast_type(name);
        if self.eat_op("(") {
            to.length = Some(self.integer()?);
            if self.eat_op(",") {
                to.scale = Some(self.integer()?);
            }
            self.expect_op(")")?;
        }
        if self.eat_word("charset") || (self.is_word(0, "character") && self.is_word(1, "set")) {
            self.at += usize::from(self.is_word(0, "character")) * 2;
            to.charset = Some(self.name()?);
        }
        to.array = self.eat_word("array");
        Ok(to)
    }

    fn integer(&mut self) -> Parsed<i64> {
        let Some(Token::Number(text)) = self.peek(0) else {
            return Err(self.error());
        };
        let number = text.parse().map_err(|_| self.error())?;
        self.at += 1;
        Ok(number)
    }
}

fn cast_type(name: CastName) -> CastType {
    CastType {
        name,
        length: None,
        scale: None,
        charset: None,
        array: false,
    }
}
