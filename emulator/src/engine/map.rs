//! Loops over the lanes of rows, as macros so that each operation gets a loop of its own that vectorises.

macro_rules! map1 {
    ($regs:ident, $m:ident, $d:expr, $a:expr, |$x:ident| $body:expr) => {{
        let row = $regs.r($a);
        let mut out: Row = [0; 32];
        for lane in 0..32 {
            let $x = row[lane];
            out[lane] = $body;
        }
        let defined = $regs.rdef($a);
        $regs.put($d, &out, $m, defined);
    }};
}

macro_rules! map2 {
    ($regs:ident, $m:ident, $d:expr, $a:expr, $b:expr, |$x:ident, $y:ident| $body:expr) => {{
        let (left, right) = ($regs.r($a), $regs.r($b));
        let mut out: Row = [0; 32];
        for lane in 0..32 {
            let ($x, $y) = (left[lane], right[lane]);
            out[lane] = $body;
        }
        let defined = $regs.rdef($a) & $regs.rdef($b);
        $regs.put($d, &out, $m, defined);
    }};
}

macro_rules! map3 {
    ($regs:ident, $m:ident, $d:expr, $a:expr, $b:expr, $c:expr, |$x:ident, $y:ident, $z:ident| $body:expr) => {{
        let (first, second, third) = ($regs.r($a), $regs.r($b), $regs.r($c));
        let mut out: Row = [0; 32];
        for lane in 0..32 {
            let ($x, $y, $z) = (first[lane], second[lane], third[lane]);
            out[lane] = $body;
        }
        let defined = $regs.rdef($a) & $regs.rdef($b) & $regs.rdef($c);
        $regs.put($d, &out, $m, defined);
    }};
}

macro_rules! quad2 {
    ($regs:ident, $m:ident, $d:expr, $a:expr, $b:expr, |$x:ident, $y:ident| $body:expr) => {{
        let (left, right) = ($regs.q($a), $regs.q($b));
        let mut out: Row64 = [0; 32];
        for lane in 0..32 {
            let ($x, $y) = (left[lane], right[lane]);
            out[lane] = $body;
        }
        let defined = $regs.qdef($a) & $regs.qdef($b);
        $regs.put64($d, &out, $m, defined);
    }};
}

macro_rules! quad3 {
    ($regs:ident, $m:ident, $d:expr, $a:expr, $b:expr, $c:expr, |$x:ident, $y:ident, $z:ident| $body:expr) => {{
        let (first, second, third) = ($regs.q($a), $regs.q($b), $regs.q($c));
        let mut out: Row64 = [0; 32];
        for lane in 0..32 {
            let ($x, $y, $z) = (first[lane], second[lane], third[lane]);
            out[lane] = $body;
        }
        let defined = $regs.qdef($a) & $regs.qdef($b) & $regs.qdef($c);
        $regs.put64($d, &out, $m, defined);
    }};
}

macro_rules! test2 {
    ($left:expr, $right:expr, |$x:ident, $y:ident| $body:expr) => {{
        let (left, right) = ($left, $right);
        let mut bits = [0u32; 32];
        for lane in 0..32 {
            let ($x, $y) = (left[lane], right[lane]);
            bits[lane] = u32::from($body) << lane;
        }
        bits.iter().fold(0, |all, bit| all | bit)
    }};
}
