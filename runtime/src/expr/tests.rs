//! Expressions against a second evaluator, written from the definition.

use super::*;

fn vars() -> Vars {
    let mut vars = Vars::gemm(1000, 520, 72);
    vars.set(VarId::SMS, 132).unwrap();
    vars.set(VarId::of("zero"), 0).unwrap();
    vars
}

fn eval(text: &str) -> Result<i64, String> {
    let expr: Expr = text.parse().map_err(|error: ParseError| error.to_string())?;
    expr.eval(&vars()).map_err(|error| error.to_string())
}

#[test]
fn values() {
    let cases: &[(&str, i64)] = &[
        ("ceil_div(m,128)*batch", 8),
        ("k % 8 == 0", 1),
        ("min(ceil_div(m,256)*ceil_div(n,128), sms/2)*2", 40),
        ("round_up(m, 256)", 1024),
        ("2 + 3 * 4 - 5", 9),
        ("20 - 5 - 3", 12),
        ("100 / 7 / 2", 7),
        ("-7 / 2", -3),
        ("-7 % 4", -3),
        ("ceil_div(-7, 2)", -3),
        ("ceil_div(0, 5)", 0),
        ("- - 3", 3),
        ("!m", 0),
        ("!zero", 1),
        ("!zero == 1", 1),
        ("1 < 2 && 2 >= 2 || zero", 1),
        ("zero || zero && 1", 0),
        ("5 && 7", 1),
        ("0 || 9", 1),
        ("9 || 0", 1),
        ("(1 || 0) + 1", 2),
        ("zero != 0 && k / zero == 1", 0),
        ("zero == 0 || k / zero == 1", 1),
        ("max(m, n) != m", 0),
        ("  m  ", 1000),
        ("9223372036854775807", i64::MAX),
    ];
    for &(text, expected) in cases {
        assert_eq!(eval(text), Ok(expected), "{text}");
    }
}

#[test]
fn refusals() {
    let cases = [
        ("", "expression ``: expected a number, a name or `(` at character 1"),
        ("m +", "expression `m +`: expected a number, a name or `(` at character 4"),
        ("m n", "expression `m n`: expected an operator or the end at character 3"),
        ("(m", "expression `(m`: expected `)` at character 3"),
        ("min(m)", "expression `min(m)`: expected `,` and a second argument at character 6"),
        ("1 < 2 < 3", "expression `1 < 2 < 3`: expected one comparison, not a chain (use &&), at character 7"),
        ("sqrt(m, n)", "expression `sqrt(m, n)`: no function `sqrt`: there are min, max, ceil_div, round_up"),
        ("9223372036854775808", "expression `9223372036854775808`: expected a number that fits 64 bits at character 1"),
        ("m \u{d7} n", "expression `m \u{d7} n`: expected an operator or the end at character 3"),
        ("m / zero", "`m / zero`: division by 0"),
        ("m % zero", "`m % zero`: division by 0"),
        ("ceil_div(m, 0-4)", "`ceil_div(m, 0-4)`: division by -4"),
        ("9223372036854775807 + 1", "`9223372036854775807 + 1`: a value does not fit 64 bits"),
        ("(0-9223372036854775807-1) / -1", "`(0-9223372036854775807-1) / -1`: a value does not fit 64 bits"),
        ("-(0-9223372036854775807-1)", "`-(0-9223372036854775807-1)`: a value does not fit 64 bits"),
        ("round_up(9223372036854775807, 2)", "`round_up(9223372036854775807, 2)`: a value does not fit 64 bits"),
        ("heads * 2", "`heads * 2`: variable `heads` is not set for this problem"),
    ];
    for (text, expected) in cases {
        assert_eq!(eval(text), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn hostile_sizes_are_refused_without_a_crash() {
    for text in ["(".repeat(4000), "-".repeat(4000) + "1", "!".repeat(5000), "min(1,".repeat(600) + "1"] {
        assert!(text.parse::<Expr>().is_err());
    }
    let deep = "1+(".repeat(40) + "1" + &")".repeat(40);
    assert!(matches!(deep.parse::<Expr>(), Err(ParseError::TooLarge { .. })), "its stack is too deep");
    let wide = "1".to_owned() + &"+1".repeat(1000);
    assert_eq!(eval(&wide), Ok(1001));
}

#[test]
fn text_survives_serde_byte_for_byte() {
    let json = "\" k%8  ==0\"";
    let expr: Expr = serde_json::from_str(json).unwrap();
    assert_eq!(serde_json::to_string(&expr).unwrap(), json);
    assert!(serde_json::from_str::<Expr>("\"k %\"").is_err());
    assert!(serde_json::from_str::<Expr>("8").is_err());
}

#[test]
fn variables_are_listed_once_in_order() {
    let expr: Expr = "n*m + n/zz".parse().unwrap();
    assert_eq!(expr.variables(), [VarId::N, VarId::M, VarId::of("zz")]);
    assert!(expr.mentions(VarId::M) && !expr.mentions(VarId::K));
}

#[test]
fn a_problem_has_room_for_so_many_variables_and_no_more() {
    let mut vars = Vars::new();
    for at in 0..MAX_VARS {
        vars.set(VarId::of(&format!("v{at}")), at as i64).unwrap();
    }
    vars.set(VarId::of("v0"), 5).unwrap();
    assert_eq!(vars.get(VarId::of("v0")), Some(5));
    assert!(vars.set(VarId::M, 1).is_err());
}

/// An expression as a tree, with its value by the definition: `None` where it has none.
enum Tree {
    Leaf(i64),
    Infix(&'static str, Box<Tree>, Box<Tree>),
    Call(&'static str, Box<Tree>, Box<Tree>),
}

impl Tree {
    fn random(next: &mut impl FnMut(usize) -> usize, depth: usize) -> Tree {
        if depth == 0 || next(4) == 0 {
            return Tree::Leaf(next(12) as i64);
        }
        let infix = ["+", "-", "*", "/", "%", "==", "!=", "<", "<=", ">", ">=", "&&", "||"];
        let calls = ["min", "max", "ceil_div", "round_up"];
        let at = next(infix.len() + calls.len());
        let (a, b) = (Box::new(Tree::random(next, depth - 1)), Box::new(Tree::random(next, depth - 1)));
        if at < infix.len() { Tree::Infix(infix[at], a, b) } else { Tree::Call(calls[at - infix.len()], a, b) }
    }

    fn text(&self) -> String {
        match self {
            Tree::Leaf(value) => value.to_string(),
            Tree::Infix(op, a, b) => format!("({}){op}({})", a.text(), b.text()),
            Tree::Call(name, a, b) => format!("{name}({},{})", a.text(), b.text()),
        }
    }

    fn value(&self) -> Option<i64> {
        let (op, a, b) = match self {
            Tree::Leaf(value) => return Some(*value),
            Tree::Infix(op, a, b) | Tree::Call(op, a, b) => (*op, a.value()?, b),
        };
        match (op, a != 0) {
            ("&&", false) => return Some(0),
            ("||", true) => return Some(1),
            _ => {}
        }
        let b = b.value()?;
        // Division goes toward zero, which is up for what is below zero.
        let ceil = |a: i64, b: i64| Some(if a > 0 { (a + b - 1) / b } else { a / b });
        match op {
            "+" => a.checked_add(b),
            "-" => a.checked_sub(b),
            "*" => a.checked_mul(b),
            "/" => a.checked_div(b),
            "%" => a.checked_rem(b),
            "==" => Some((a == b).into()),
            "!=" => Some((a != b).into()),
            "<" => Some((a < b).into()),
            "<=" => Some((a <= b).into()),
            ">" => Some((a > b).into()),
            ">=" => Some((a >= b).into()),
            "&&" | "||" => Some((b != 0).into()),
            "min" => Some(a.min(b)),
            "max" => Some(a.max(b)),
            _ if b < 1 => None,
            _ => ceil(a, b),
        }
        .and_then(|value| if op == "round_up" { value.checked_mul(b) } else { Some(value) })
    }
}

#[test]
fn random_trees_agree_with_the_definition() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut with_value = 0;
    let (mut builder, mut ids) = (ProgramBuilder::default(), Vec::new());
    for _ in 0..20_000 {
        let tree = Tree::random(&mut next, 4);
        let text = tree.text();
        assert_eq!(eval(&text).ok(), tree.value(), "{text}");
        with_value += usize::from(tree.value().is_some());
        // The same in a program, where a variable that is replaced stands for the leaf 7.
        let expr: Expr = text.replace('7', "seven").parse().unwrap();
        let seven = builder.add(&"m - 993".parse().unwrap(), &[]);
        // And written into it, with a jump of its own.
        let sevens = [(VarId::of("seven"), "(m == 1000 && m > 7) * (m - 993)".parse().unwrap())];
        assert_eq!(expr.replaced(&sevens).unwrap().eval(&vars()).ok(), tree.value(), "{text}");
        ids.push((builder.add(&expr, &[(VarId::of("seven"), seven)]), tree));
    }
    assert!(with_value > 5_000, "only {with_value} trees had a value");
    let program = builder.finish();
    let mut room = program.room();
    program.run((&Vars::gemm(12, 1, 1)).into(), &mut room);
    program.run((&vars()).into(), &mut room);
    for (id, tree) in ids {
        assert_eq!(room.get(id), tree.value(), "{}", tree.text());
    }
}
