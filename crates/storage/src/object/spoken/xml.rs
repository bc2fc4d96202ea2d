//! What services answer in XML, as far as they do so alike.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

/// Understands an answer none of whose texts begins or ends with blanks that matter: those are lost.
pub(in crate::object) fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    quick_xml::de::from_str(utf8(body)?).map_err(|e| format!("its answer is not understood: {e}"))
}

fn utf8(body: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(body).map_err(|_| "its answer is no text".to_owned())
}

/// An element that has ended, with all blanks of its text.
pub(in crate::object) struct Element {
    pub(in crate::object) name: String,
    pub(in crate::object) text: String,
    /// `Encoded="true"`: the text has `%XX` in it.
    pub(in crate::object) is_encoded: bool,
}

/// Elements are not nested deeper.
const DEPTH_MAX: usize = 16;

/// Calls `visit` for each element of an answer when it ends, the inner ones first. `root` is the name of the outermost.
pub(in crate::object) fn walk(
    body: &[u8],
    root: &str,
    visit: &mut dyn FnMut(Element) -> Result<(), String>,
) -> Result<(), String> {
    let wrong = |why: String| format!("its answer is not understood: {why}");
    let mut reader = Reader::from_str(utf8(body)?.trim_start_matches('\u{feff}'));
    let mut open: Vec<Element> = Vec::new();
    let mut ended = false;
    loop {
        let event = reader.read_event().map_err(|e| wrong(e.to_string()))?;
        let text = match event {
            Event::Start(start) if open.is_empty() && start.name().as_ref() != root.as_bytes() => {
                return Err(wrong(format!("it is no {root}")));
            }
            Event::Start(_) if open.len() == DEPTH_MAX => {
                return Err(wrong("it is nested too deep".to_owned()));
            }
            Event::Start(start) => {
                open.push(begun(&start));
                continue;
            }
            Event::Empty(start) => {
                visit(begun(&start))?;
                ended |= open.is_empty();
                continue;
            }
            Event::End(_) => {
                open.pop().map(&mut *visit).transpose()?;
                ended |= open.is_empty();
                continue;
            }
            Event::Text(text) => text.decode().map_err(|e| wrong(e.to_string()))?.into_owned(),
            Event::CData(text) => text.decode().map_err(|e| wrong(e.to_string()))?.into_owned(),
            Event::GeneralRef(reference) => resolved(&reference)
                .ok_or_else(|| wrong("a letter in it has no meaning".to_owned()))?
                .to_string(),
            Event::Eof if ended => return Ok(()),
            Event::Eof => return Err(wrong("it ends in its middle".to_owned())),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => continue,
        };
        if let Some(element) = open.last_mut() {
            element.text.push_str(&text);
        }
    }
}

fn begun(start: &BytesStart<'_>) -> Element {
    let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
    let encoded = start.try_get_attribute("Encoded").ok().flatten();
    let is_encoded = encoded.is_some_and(|attribute| attribute.value.as_ref() == b"true");
    Element { name, text: String::new(), is_encoded }
}

/// `&amp;` and `&#9;` as what they stand for.
fn resolved(reference: &BytesRef<'_>) -> Option<char> {
    match reference.as_ref() {
        b"amp" => Some('&'),
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        _ => reference.resolve_char_ref().ok().flatten(),
    }
}

/// The tags of an object, by name.
pub(in crate::object) fn tags(body: &[u8], root: &str) -> Result<Vec<(String, String)>, String> {
    let (mut tags, mut name, mut value) = (Vec::new(), String::new(), String::new());
    walk(body, root, &mut |element| {
        match element.name.as_str() {
            "Key" => name = element.text,
            "Value" => value = element.text,
            "Tag" => tags.push((std::mem::take(&mut name), std::mem::take(&mut value))),
            _ => {}
        }
        Ok(())
    })?;
    tags.sort();
    Ok(tags)
}

/// `%XX` as what it stands for, and `+` as a blank where forms are meant.
pub(in crate::object) fn decoded(text: &str, is_form: bool) -> Result<String, String> {
    let wrong = || format!("its key '{}' is not encoded as it says", text.escape_debug());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(&first) = rest.next() {
        bytes.push(match first {
            b'%' => {
                let (digits, after) = rest.as_slice().split_at_checked(2).ok_or_else(wrong)?;
                rest = after.iter();
                let mut byte = [0];
                hex::decode_to_slice(digits, &mut byte).map_err(|_| wrong())?;
                byte[0]
            }
            b'+' if is_form => b' ',
            plain => plain,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_marks_of_a_text_are_kept() {
        let text = b"<?xml version=\"1.0\"?>\n<Tagging xmlns=\"u\"><TagSet>\n <Tag><Key> a&amp;b </Key><Value>&#9;x</Value></Tag>\
                     <Tag><Key>only</Key><Value/></Tag><Tag><Key>b</Key><Value><![CDATA[<y> ]]></Value></Tag></TagSet></Tagging>";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            tags(text, "Tagging").unwrap(),
            [pair(" a&b ", "\tx"), pair("b", "<y> "), pair("only", "")]
        );
    }

    #[test]
    fn an_answer_that_is_none_is_refused() {
        for text in ["", "no", "<Tagging>", "<Tagging/", "<html></html>", "<Tagging><a>&none;</a></Tagging>"]
        {
            assert!(tags(text.as_bytes(), "Tagging").is_err(), "{text}");
        }
        let deep = format!("<Tagging>{}", "<a>".repeat(100));
        assert!(tags(deep.as_bytes(), "Tagging").is_err());
        assert!(tags(b"<Tagging/>", "Tagging").unwrap().is_empty());
    }
}
