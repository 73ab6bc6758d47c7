//! Writing an expression of a definition back as TiDB stores it in `generated_expr_string` and in a
//! partition's `expr`, and which columns it reads. Queries are never restored.

use super::{CastType, Expr};
use crate::error::{SqlError, SqlResult};

/// The two spellings TiDB uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Generated columns, expression indexes, CHECK: keywords in lower case.
    Generated,
    /// Partition expressions: keywords in upper case, every binary operation in parentheses.
    Partition,
}

/// The stored text of `expr`.
pub fn restore(expr: &Expr, style: Style) -> SqlResult<String> {
    let mut out = Writer {
        out: String::new(),
        style,
    };
    out.expr(expr)?;
    Ok(out.out)
}

struct Writer {
    out: String,
    style: Style,
}

impl Writer {
    fn keyword(&mut self, word: &str) {
        match self.style {
            Style::Generated => self.out.push_str(&word.to_lowercase()),
            Style::Partition => self.out.push_str(&word.to_uppercase()),
        }
    }

    fn list(&mut self, items: &[Expr], separator: &str) -> SqlResult<()> {
        for (i, item) in items.iter().enumerate() {
            self.out.push_str(if i > 0 { separator } else { "" });
            self.expr(item)?;
        }
        Ok(())
    }

    /// `name(args)`.
    fn call(&mut self, name: &str, args: &[Expr]) -> SqlResult<()> {
        self.keyword(name);
        self.out.push('(');
        self.list(args, ", ")?;
        self.out.push(')');
        Ok(())
    }

    fn not(&mut self, not: bool) {
        self.keyword(if not { " not " } else { " " });
    }

    fn expr(&mut self, expr: &Expr) -> SqlResult<()> {
        match expr {
            Expr::Column { name, .. } => self.out.push_str(&quoted(name)),
            Expr::Null => self.keyword("null"),
            Expr::Bool(value) => self.keyword(if *value { "true" } else { "false" }),
            Expr::Number(text) => self.out.push_str(text),
            Expr::Str { introducer, bytes } => {
                let text = String::from_utf8_lossy(bytes)
                    .replace('\\', "\\\\")
                    .replace('\'', "''");
                let charset = introducer.as_deref().unwrap_or("utf8mb4");
                self.out.push_str(&format!("_{charset}'{text}'"));
            }
            Expr::Binary(bytes) => {
                let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
                self.out.push_str(&format!("x'{hex}'"));
            }
            Expr::Temporal { kind, text } => {
                self.keyword(kind);
                self.out
                    .push_str(&format!(" '{}'", text.replace('\'', "''")));
            }
            Expr::Unary { op, expr } => {
                self.keyword(op);
                if op.bytes().all(|b| b.is_ascii_alphabetic()) {
                    self.out.push(' ');
                }
                self.expr(expr)?;
            }
            Expr::Op { op, left, right } => self.operation(op, left, right)?,
            Expr::Paren(inner) => {
                self.out.push('(');
                self.expr(inner)?;
                self.out.push(')');
            }
            Expr::Call { name, args, .. } => match (name.as_str(), args.as_slice()) {
                ("json_memberof", [element, array]) => {
                    self.expr(element)?;
                    self.keyword(" member of (");
                    self.expr(array)?;
                    self.out.push(')');
                }
                // The unit is a word, not a text.
                ("timestampdiff" | "timestampadd", [Expr::Str { bytes, .. }, args @ ..]) => {
                    self.keyword(&format!("{name}({}, ", String::from_utf8_lossy(bytes)));
                    self.list(args, ", ")?;
                    self.out.push(')');
                }
                _ => self.call(name, args)?,
            },
            Expr::Cast { expr, to, convert } => self.cast(expr, to, *convert)?,
            Expr::Using { expr, charset } => {
                self.keyword("convert(");
                self.expr(expr)?;
                self.keyword(" using ");
                self.out.push_str(&format!("'{charset}')"));
            }
            Expr::Is { expr, what, not } => {
                self.expr(expr)?;
                self.keyword(if *not { " is not " } else { " is " });
                self.keyword(what);
            }
            Expr::In { expr, list, not } => {
                self.expr(expr)?;
                self.not(*not);
                self.keyword("in (");
                self.list(list, ",")?;
                self.out.push(')');
            }
            Expr::Between {
                expr,
                low,
                high,
                not,
            } => {
                self.expr(expr)?;
                self.not(*not);
                self.keyword("between ");
                self.expr(low)?;
                self.keyword(" and ");
                self.expr(high)?;
            }
            Expr::Like {
                expr,
                pattern,
                not,
                regexp,
                ..
            } => {
                self.expr(expr)?;
                self.not(*not);
                self.keyword(if *regexp { "regexp " } else { "like " });
                self.expr(pattern)?;
            }
            Expr::Case {
                operand,
                arms,
                otherwise,
            } => self.case(operand.as_deref(), arms, otherwise.as_deref())?,
            Expr::DateAdd {
                expr,
                amount,
                unit,
                minus,
            } => {
                self.keyword(if *minus { "date_sub(" } else { "date_add(" });
                self.expr(expr)?;
                self.keyword(", interval ");
                self.expr(amount)?;
                self.keyword(&format!(" {unit})"));
            }
            Expr::Extract { unit, expr } => {
                self.keyword(&format!("extract({unit} from "));
                self.expr(expr)?;
                self.out.push(')');
            }
            Expr::Trim {
                what: None, expr, ..
            } => self.call("trim", std::slice::from_ref(expr))?,
            Expr::Collate { expr, collation } => {
                self.expr(expr)?;
                self.keyword(" collate ");
                self.out.push_str(collation);
            }
            _ => return Err(SqlError::unsupported("this expression in a definition")),
        }
        Ok(())
    }

    fn operation(&mut self, op: &str, left: &Expr, right: &Expr) -> SqlResult<()> {
        let brackets = self.style == Style::Partition;
        self.out.push_str(if brackets { "(" } else { "" });
        self.expr(left)?;
        self.out.push(' ');
        self.keyword(op);
        self.out.push(' ');
        self.expr(right)?;
        self.out.push_str(if brackets { ")" } else { "" });
        Ok(())
    }

    fn cast(&mut self, expr: &Expr, to: &CastType, convert: bool) -> SqlResult<()> {
        self.keyword(if convert { "convert(" } else { "cast(" });
        self.expr(expr)?;
        self.keyword(if convert { ", " } else { " as " });
        self.keyword(to.name);
        match (to.length, to.scale) {
            (Some(length), Some(scale)) => self.out.push_str(&format!("({length}, {scale})")),
            (Some(length), None) => self.out.push_str(&format!("({length})")),
            _ => {}
        }
        if let Some(charset) = &to.charset {
            self.keyword(&format!(" charset {charset}"));
        }
        self.keyword(if to.array { " array)" } else { ")" });
        Ok(())
    }

    fn case(
        &mut self,
        operand: Option<&Expr>,
        arms: &[(Expr, Expr)],
        otherwise: Option<&Expr>,
    ) -> SqlResult<()> {
        self.keyword("case");
        if let Some(operand) = operand {
            self.out.push(' ');
            self.expr(operand)?;
        }
        for (when, then) in arms {
            self.keyword(" when ");
            self.expr(when)?;
            self.keyword(" then ");
            self.expr(then)?;
        }
        if let Some(otherwise) = otherwise {
            self.keyword(" else ");
            self.expr(otherwise)?;
        }
        self.keyword(" end");
        Ok(())
    }
}

/// A name in back quotes.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Names of the columns `expr` reads, in lower case, each once.
pub fn columns_of(expr: &Expr) -> Vec<String> {
    let mut names = Vec::new();
    visit(expr, &mut |e| {
        if let Expr::Column { name, .. } = e
            && !names.contains(&name.to_lowercase())
        {
            names.push(name.to_lowercase());
        }
    });
    names
}

/// Whether `expr` computes an aggregate of its query (not one over a window).
pub fn has_aggregate(expr: &Expr) -> bool {
    const AGGREGATES: [&str; 10] = [
        "count",
        "sum",
        "avg",
        "min",
        "max",
        "group_concat",
        "bit_xor",
        "bit_and",
        "bit_or",
        "any_value",
    ];
    let mut found = false;
    visit(expr, &mut |e| {
        found |= matches!(e, Expr::Call { name, tail, .. } if tail.over.is_none() && AGGREGATES.contains(&name.as_str()));
    });
    found
}

/// Columns `expr` reads with the table they are qualified by.
pub fn columns_with_tables(expr: &Expr) -> Vec<(Option<String>, String)> {
    let mut names = Vec::new();
    visit(expr, &mut |e| {
        if let Expr::Column { table, name } = e {
            names.push((table.clone(), name.clone()));
        }
    });
    names
}

/// With every column qualified by `alias`.
pub fn qualify(expr: &Expr, alias: &str) -> Expr {
    substitute(expr, &|e| match e {
        Expr::Column { name, .. } => Some(Expr::Column {
            table: Some(alias.to_owned()),
            name: name.clone(),
        }),
        _ => None,
    })
}

/// A copy in which every part that `with` has something for is replaced by that. Goes into the shapes that
/// definitions and assignments have; subqueries are left alone.
pub fn substitute(expr: &Expr, with: &dyn Fn(&Expr) -> Option<Expr>) -> Expr {
    if let Some(replaced) = with(expr) {
        return replaced;
    }
    let boxed = |e: &Expr| Box::new(substitute(e, with));
    let list = |items: &[Expr]| {
        items
            .iter()
            .map(|e| substitute(e, with))
            .collect::<Vec<_>>()
    };
    match expr.clone() {
        Expr::Unary { op, expr } => Expr::Unary {
            op,
            expr: boxed(&expr),
        },
        Expr::Op { op, left, right } => Expr::Op {
            op,
            left: boxed(&left),
            right: boxed(&right),
        },
        Expr::Paren(inner) => Expr::Paren(boxed(&inner)),
        Expr::Cast { expr, to, convert } => Expr::Cast {
            expr: boxed(&expr),
            to,
            convert,
        },
        Expr::Using { expr, charset } => Expr::Using {
            expr: boxed(&expr),
            charset,
        },
        Expr::Is { expr, what, not } => Expr::Is {
            expr: boxed(&expr),
            what,
            not,
        },
        Expr::Extract { unit, expr } => Expr::Extract {
            unit,
            expr: boxed(&expr),
        },
        Expr::In {
            expr,
            list: items,
            not,
        } => Expr::In {
            expr: boxed(&expr),
            list: list(&items),
            not,
        },
        Expr::Between {
            expr,
            low,
            high,
            not,
        } => Expr::Between {
            expr: boxed(&expr),
            low: boxed(&low),
            high: boxed(&high),
            not,
        },
        Expr::Call {
            name,
            distinct,
            args,
            tail,
        } => Expr::Call {
            name,
            distinct,
            args: list(&args),
            tail,
        },
        Expr::Case {
            operand,
            arms,
            otherwise,
        } => Expr::Case {
            operand: operand.as_deref().map(boxed),
            arms: arms
                .iter()
                .map(|(when, then)| (substitute(when, with), substitute(then, with)))
                .collect(),
            otherwise: otherwise.as_deref().map(boxed),
        },
        Expr::DateAdd {
            expr,
            amount,
            unit,
            minus,
        } => Expr::DateAdd {
            expr: boxed(&expr),
            amount: boxed(&amount),
            unit,
            minus,
        },
        other => other,
    }
}

fn visit(expr: &Expr, f: &mut impl FnMut(&Expr)) {
    f(expr);
    match expr {
        Expr::Unary { expr, .. }
        | Expr::Paren(expr)
        | Expr::Cast { expr, .. }
        | Expr::Using { expr, .. }
        | Expr::Is { expr, .. }
        | Expr::Extract { expr, .. }
        | Expr::Collate { expr, .. } => visit(expr, f),
        Expr::Op { left, right, .. } => {
            visit(left, f);
            visit(right, f);
        }
        Expr::Call { args, .. } | Expr::Row(args) => args.iter().for_each(|a| visit(a, f)),
        Expr::Case {
            operand,
            arms,
            otherwise,
        } => {
            operand
                .iter()
                .chain(otherwise.iter())
                .for_each(|e| visit(e, f));
            for (when, then) in arms {
                visit(when, f);
                visit(then, f);
            }
        }
        Expr::In { expr, list, .. } => {
            visit(expr, f);
            list.iter().for_each(|e| visit(e, f));
        }
        Expr::Between {
            expr, low, high, ..
        } => [expr, low, high].into_iter().for_each(|e| visit(e, f)),
        Expr::Like { expr, pattern, .. } => {
            visit(expr, f);
            visit(pattern, f);
        }
        Expr::DateAdd { expr, amount, .. } => {
            visit(expr, f);
            visit(amount, f);
        }
        Expr::Trim { what, expr, .. } => {
            what.iter().for_each(|e| visit(e, f));
            visit(expr, f);
        }
        _ => {}
    }
}
