//! Expressions as trees. Macros are nodes of their own, not expanded.

/// A node and where it is in the text.
#[derive(Clone, Debug)]
pub struct Node {
    pub expr: Expr,
    /// Byte in the text.
    pub at: usize,
    /// Nodes from here down to the deepest one.
    pub height: usize,
}

impl Expr {
    /// The height of the highest part.
    pub fn height_of_parts(&self) -> usize {
        let highest = |nodes: &[&Node]| nodes.iter().map(|node| node.height).max().unwrap_or(0);
        match self {
            Expr::Select { operand, .. } | Expr::Has { operand, .. } => operand.height,
            Expr::Index { operand, index, .. } => highest(&[operand, index]),
            Expr::Call { target, args, .. } => {
                let parts: Vec<&Node> = target.iter().map(|target| &**target).chain(args).collect();
                highest(&parts)
            }
            Expr::Binary(_, left, right) => highest(&[left, right]),
            Expr::Not(operand) | Expr::Negate(operand) => operand.height,
            Expr::Conditional(parts) => highest(&parts.each_ref()),
            Expr::List(items) => items.iter().map(|(item, _)| item.height).max().unwrap_or(0),
            Expr::Map(entries) => {
                let heights = entries
                    .iter()
                    .map(|(key, value, _)| key.height.max(value.height));
                heights.max().unwrap_or(0)
            }
            Expr::Object { fields, .. } => {
                let heights = fields.iter().map(|(_, value, _)| value.height);
                heights.max().unwrap_or(0)
            }
            Expr::Fold(fold) => {
                let filter = fold.filter.as_ref().map_or(0, |filter| filter.height);
                highest(&[&fold.range, &fold.body]).max(filter)
            }
            _ => 0,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Expr {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    Ident(String),
    /// `a.b`, or `a.?b`.
    Select {
        operand: Box<Node>,
        field: String,
        optional: bool,
    },
    /// `has(a.b)`.
    Has {
        operand: Box<Node>,
        field: String,
    },
    /// `a[b]`, or `a[?b]`.
    Index {
        operand: Box<Node>,
        index: Box<Node>,
        optional: bool,
    },
    /// `f(a)`, or `a.f(b)`.
    Call {
        function: String,
        target: Option<Box<Node>>,
        args: Vec<Node>,
    },
    Binary(Operator, Box<Node>, Box<Node>),
    Not(Box<Node>),
    Negate(Box<Node>),
    Conditional(Box<[Node; 3]>),
    /// Items; the optional ones are left out when they are empty.
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    /// `Object.spec{a: b}`: an object of a named type; optional fields are left out when they are empty.
    Object {
        name: String,
        fields: Vec<(String, Node, bool)>,
    },
    Fold(Box<Fold>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    And,
    Or,
}

impl Operator {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Operator::Add => "_+_",
            Operator::Subtract => "_-_",
            Operator::Multiply => "_*_",
            Operator::Divide => "_/_",
            Operator::Modulo => "_%_",
            Operator::Equal => "_==_",
            Operator::NotEqual => "_!=_",
            Operator::Less => "_<_",
            Operator::LessOrEqual => "_<=_",
            Operator::Greater => "_>_",
            Operator::GreaterOrEqual => "_>=_",
            Operator::In => "@in",
            Operator::And => "_&&_",
            Operator::Or => "_||_",
        }
    }
}

/// A macro over the entries of a list or map, or over an optional value.
#[derive(Clone, Debug)]
pub struct Fold {
    pub kind: FoldKind,
    pub range: Node,
    /// One variable (item or key), or two (index and item, key and value).
    pub variables: Vec<String>,
    /// Which entries count, where that is not the body itself.
    pub filter: Option<Node>,
    pub body: Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoldKind {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformList,
    TransformMap,
    OptMap,
    OptFlatMap,
}
