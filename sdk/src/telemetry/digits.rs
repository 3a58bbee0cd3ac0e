//! Numbers as digits, by hand: they are in every line and every header of a trace, and the formatter takes longer for one than
//! all the rest of a line takes.

/// In decimal digits.
pub(super) fn push_number(number: u64, to: &mut String) {
    if number < 10 {
        to.push((b'0' + number as u8) as char);
    } else if number < 100 {
        push_pair(number, to);
    } else {
        push_number(number / 100, to);
        push_pair(number % 100, to);
    }
}

/// A number below a hundred, in two digits.
pub(super) fn push_pair(number: u64, to: &mut String) {
    to.push((b'0' + (number / 10 % 10) as u8) as char);
    to.push((b'0' + (number % 10) as u8) as char);
}

/// Two hexadecimal digits for each byte, as far as there is room.
pub(crate) fn hex(bytes: &[u8], to: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in to.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_formatter() {
        for number in [0, 7, 10, 99, 100, 65_535, u64::MAX] {
            let mut text = "n".to_owned();
            push_number(number, &mut text);
            assert_eq!(text, format!("n{number}"));
        }
        let mut text = [b'-'; 7];
        hex(&[0x0f, 0xa0, 0x7], &mut text);
        assert_eq!(&text, b"0fa007-");
    }
}
