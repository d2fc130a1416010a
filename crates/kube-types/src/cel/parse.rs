//! Tokens → tree. Operators bind as cel-spec has them; macros are recognised here.

use super::ast::{Expr, Fold, FoldKind, Node, Operator};
use super::lexer::{Mistake, Token, tokens};

/// Nesting beyond this is refused: hostile text must not use up the stack.
const DEPTH_MAX: usize = 100;
/// So is a higher tree: long chains of operators are high, too.
const HEIGHT_MAX: usize = 500;
/// And one of more nodes.
const NODES_MAX: usize = 20_000;

/// Words that are no names.
pub const RESERVED: [&str; 18] = [
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Reads one expression.
pub fn parse(text: &str) -> Result<Node, Mistake> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
        nodes: 0,
    };
    let root = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(root),
        _ => Err(parser.unexpected()),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
    nodes: usize,
}

type Parsed = Result<Node, Mistake>;

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn at(&self) -> usize {
        self.tokens[self.next].0
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        if token != Token::End {
            self.next += 1;
        }
        token
    }

    fn accept(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(next) if *next == sign);
        if found {
            self.next += 1;
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Mistake> {
        if self.accept(sign) {
            Ok(())
        } else {
            Err(self.unexpected())
        }
    }

    fn unexpected(&self) -> Mistake {
        let input = match self.peek() {
            Token::End => "<EOF>".to_owned(),
            Token::Ident(name) => name.clone(),
            Token::Sign(sign) => (*sign).to_owned(),
            other => format!("{other:?}"),
        };
        (
            self.at(),
            format!("Syntax error: mismatched input '{input}'"),
        )
    }

    fn node(&mut self, at: usize, expr: Expr) -> Parsed {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err((at, format!("expression has more than {NODES_MAX} parts")));
        }
        let height = expr.height_of_parts() + 1;
        if height > HEIGHT_MAX {
            return Err((at, format!("expression is nested deeper than {HEIGHT_MAX}")));
        }
        Ok(Node { expr, at, height })
    }

    fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err((
                self.at(),
                format!("expression is nested deeper than {DEPTH_MAX}"),
            ));
        }
        let condition = self.binary(0)?;
        let at = self.at();
        let parsed = if self.accept("?") {
            let then = self.binary(0)?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            self.node(
                at,
                Expr::Conditional(Box::new([condition, then, otherwise])),
            )
        } else {
            Ok(condition)
        };
        self.depth -= 1;
        parsed
    }

    /// Operators of one level and those that bind closer.
    fn binary(&mut self, level: usize) -> Parsed {
        const LEVELS: [&[(&str, Operator)]; 5] = [
            &[("||", Operator::Or)],
            &[("&&", Operator::And)],
            &[
                ("<", Operator::Less),
                ("<=", Operator::LessOrEqual),
                (">", Operator::Greater),
                (">=", Operator::GreaterOrEqual),
                ("==", Operator::Equal),
                ("!=", Operator::NotEqual),
            ],
            &[("+", Operator::Add), ("-", Operator::Subtract)],
            &[
                ("*", Operator::Multiply),
                ("/", Operator::Divide),
                ("%", Operator::Modulo),
            ],
        ];
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        loop {
            let found = match self.peek() {
                Token::Sign(sign) => operators
                    .iter()
                    .find(|(known, _)| known == sign)
                    .map(|(_, operator)| *operator),
                Token::Ident(word) if word == "in" && level == 2 => Some(Operator::In),
                _ => None,
            };
            let Some(operator) = found else {
                return Ok(left);
            };
            let at = self.at();
            self.take();
            let right = self.binary(level + 1)?;
            left = self.node(at, Expr::Binary(operator, Box::new(left), Box::new(right)))?;
        }
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        for sign in ["!", "-"] {
            let mut count = 0;
            while self.accept(sign) {
                count += 1;
            }
            if count == 0 {
                continue;
            }
            if sign == "-" && self.accept_int_min() {
                if count > 1 {
                    return Err((at, "invalid number literal: overflow".to_owned()));
                }
                return self.node(at, Expr::Int(i64::MIN));
            }
            let operand = self.member()?;
            // An even number takes itself back.
            if count % 2 == 0 {
                return Ok(operand);
            }
            return match (sign, operand.expr) {
                ("-", Expr::Int(value)) if value != i64::MIN => self.node(at, Expr::Int(-value)),
                ("-", Expr::Double(value)) => self.node(at, Expr::Double(-value)),
                ("-", expr) => {
                    let operand = self.node(operand.at, expr)?;
                    self.node(at, Expr::Negate(Box::new(operand)))
                }
                (_, expr) => {
                    let operand = self.node(operand.at, expr)?;
                    self.node(at, Expr::Not(Box::new(operand)))
                }
            };
        }
        self.member()
    }

    fn accept_int_min(&mut self) -> bool {
        let found = *self.peek() == Token::IntMin;
        if found {
            self.next += 1;
        }
        found
    }

    fn member(&mut self) -> Parsed {
        let mut node = self.primary()?;
        loop {
            let at = self.at();
            if self.accept(".") {
                let optional = self.accept("?");
                let field = self.name()?;
                if !optional && self.accept("(") {
                    let args = self.arguments(")")?;
                    node = self.method(at, node, field, args)?;
                } else {
                    let operand = Box::new(node);
                    node = self.node(
                        at,
                        Expr::Select {
                            operand,
                            field,
                            optional,
                        },
                    )?;
                }
            } else if self.accept("[") {
                let optional = self.accept("?");
                let index = Box::new(self.expression()?);
                self.expect("]")?;
                let operand = Box::new(node);
                node = self.node(
                    at,
                    Expr::Index {
                        operand,
                        index,
                        optional,
                    },
                )?;
            } else if let Some(name) = self.named_before_brace(&node) {
                self.expect("{")?;
                node = self.object(node.at, name)?;
            } else {
                return Ok(node);
            }
        }
    }

    /// The dotted name that a node is, where a brace follows it.
    fn named_before_brace(&self, node: &Node) -> Option<String> {
        matches!(self.peek(), Token::Sign("{")).then(|| dotted(node))?
    }

    /// The fields of an object of a named type.
    fn object(&mut self, at: usize, name: String) -> Parsed {
        let mut fields = Vec::new();
        while !self.accept("}") {
            let optional = self.accept("?");
            let field = self.name()?;
            self.expect(":")?;
            fields.push((field, self.expression()?, optional));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        self.node(at, Expr::Object { name, fields })
    }

    fn name(&mut self) -> Result<String, Mistake> {
        match self.peek().clone() {
            Token::Ident(name) if !RESERVED.contains(&name.as_str()) => {
                self.next += 1;
                Ok(name)
            }
            Token::Ident(name) => Err((self.at(), format!("reserved identifier: {name}"))),
            _ => Err(self.unexpected()),
        }
    }

    fn arguments(&mut self, end: &str) -> Result<Vec<Node>, Mistake> {
        let mut args = Vec::new();
        while !self.accept(end) {
            args.push(self.expression()?);
            if !self.accept(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(args)
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        if self.accept("(") {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.accept("[") {
            return self.list(at);
        }
        if self.accept("{") {
            return self.map(at);
        }
        self.accept(".");
        let expr = match self.peek().clone() {
            Token::Int(value) => Expr::Int(value),
            Token::Uint(value) => Expr::Uint(value),
            Token::Double(value) => Expr::Double(value),
            Token::String(value) => Expr::String(value),
            Token::Bytes(value) => Expr::Bytes(value),
            Token::Ident(word) => return self.word(at, word),
            _ => return Err(self.unexpected()),
        };
        self.take();
        self.node(at, expr)
    }

    fn word(&mut self, at: usize, word: String) -> Parsed {
        let expr = match word.as_str() {
            "true" => Expr::Bool(true),
            "false" => Expr::Bool(false),
            "null" => Expr::Null,
            _ => {
                let name = self.name()?;
                if !self.accept("(") {
                    return self.node(at, Expr::Ident(name));
                }
                let args = self.arguments(")")?;
                return self.function(at, name, args);
            }
        };
        self.take();
        self.node(at, expr)
    }

    fn list(&mut self, at: usize) -> Parsed {
        let mut items = Vec::new();
        while !self.accept("]") {
            let optional = self.accept("?");
            items.push((self.expression()?, optional));
            if !self.accept(",") {
                self.expect("]")?;
                break;
            }
        }
        self.node(at, Expr::List(items))
    }

    fn map(&mut self, at: usize) -> Parsed {
        let mut entries = Vec::new();
        while !self.accept("}") {
            let optional = self.accept("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?, optional));
            if !self.accept(",") {
                self.expect("}")?;
                break;
            }
        }
        self.node(at, Expr::Map(entries))
    }

    /// A call without a target; `has` is a macro.
    fn function(&mut self, at: usize, function: String, mut args: Vec<Node>) -> Parsed {
        if function != "has" || args.len() != 1 {
            let target = None;
            return self.node(
                at,
                Expr::Call {
                    function,
                    target,
                    args,
                },
            );
        }
        match args.pop().map(|arg| arg.expr) {
            Some(Expr::Select {
                operand,
                field,
                optional: false,
            }) => self.node(at, Expr::Has { operand, field }),
            _ => Err((at, "invalid argument to has() macro".to_owned())),
        }
    }

    /// A call on a target; some are macros.
    fn method(&mut self, at: usize, target: Node, function: String, mut args: Vec<Node>) -> Parsed {
        let Some((kind, variables, has_filter)) = fold(&function, args.len()) else {
            // Functions with a dot in their name have a target that is no value.
            if let Expr::Ident(space) = &target.expr
                && super::library::is_namespace(space)
            {
                let function = format!("{space}.{function}");
                return self.node(
                    at,
                    Expr::Call {
                        function,
                        target: None,
                        args,
                    },
                );
            }
            let target = Some(Box::new(target));
            return self.node(
                at,
                Expr::Call {
                    function,
                    target,
                    args,
                },
            );
        };
        let mut names = Vec::new();
        for arg in args.drain(..variables) {
            match arg.expr {
                Expr::Ident(name) => names.push(name),
                _ => return Err((arg.at, "argument must be a simple name".to_owned())),
            }
        }
        let filter = has_filter.then(|| args.remove(0));
        let body = args.remove(0);
        let fold = Fold {
            kind,
            range: target,
            variables: names,
            filter,
            body,
        };
        self.node(at, Expr::Fold(Box::new(fold)))
    }
}

/// `a.b.c`, where a node is nothing else.
fn dotted(node: &Node) -> Option<String> {
    match &node.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select {
            operand,
            field,
            optional: false,
        } => Some(format!("{}.{field}", dotted(operand)?)),
        _ => None,
    }
}

/// Which macro a method call is: its kind, how many variables it has, and whether a filter comes before its body.
fn fold(function: &str, args: usize) -> Option<(FoldKind, usize, bool)> {
    Some(match (function, args) {
        ("all", 2 | 3) => (FoldKind::All, args - 1, false),
        ("exists", 2 | 3) => (FoldKind::Exists, args - 1, false),
        ("exists_one" | "existsOne", 2 | 3) => (FoldKind::ExistsOne, args - 1, false),
        ("filter", 2) => (FoldKind::Filter, 1, false),
        ("map", 2 | 3) => (FoldKind::Map, 1, args == 3),
        ("transformList", 3 | 4) => (FoldKind::TransformList, 2, args == 4),
        ("transformMap", 3 | 4) => (FoldKind::TransformMap, 2, args == 4),
        ("optMap", 2) => (FoldKind::OptMap, 1, false),
        ("optFlatMap", 2) => (FoldKind::OptFlatMap, 1, false),
        _ => return None,
    })
}
