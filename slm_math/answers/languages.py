"""Find answer phrases in languages other than English."""

from __future__ import annotations

import re

from slm_math.patterns import lazy_pattern

# (nouns, adjectives beside the noun, verbs). A phrase has a verb or a colon. An adjective that is
# not listed ("wrong") is no phrase.
_LATIN = [
    ("antwort", "", "ist|lautet|beträgt"),
    ("respuesta", "final|correcta", "es|sería"),
    ("réponse|reponse", "finale|correcte|exacte", "est|sera"),
    ("resposta", "final|correta|certa", "é|e|será"),
    ("risposta", "finale|corretta|esatta|giusta", "è|e'|sarà"),
    ("antwoord", "", "is"),
    ("cevap|yanıt", "", ""),
    ("odpowiedź|odpowiedz|odpověď|odpoveď|răspuns|raspuns", "", "to|je|este"),
    ("răspunsul", "final|corect", "este"),
    ("jawaban", "akhir|akhirnya", "adalah"),
    ("svar|svaret|vastaus|válasz|odgovor", "", "är|er|on"),
    ("đáp án|đáp số|câu trả lời|kết quả", "cuối cùng|đúng|chính xác", "là"),
]
_OTHERS = [
    ("ответ|відповідь|отговор", "", "равен|будет|это|[-–—]"),
    ("απάντηση", "", "είναι"),
    ("उत्तर|जवाब", "", "है"),
    ("উত্তর", "", "হল|হলো"),
    ("الجواب|الإجابة|الاجابة", "النهائي|النهائية|الصحيح|الصحيحة", "هو|هي"),
    ("پاسخ|جواب", "نهایی|درست", ""),
    ("תשובה|התשובה", "הסופית|הנכונה", "היא"),
    ("คำตอบ", "สุดท้าย|ที่ถูกต้อง", "คือ"),
]
# Chinese, Japanese and Korean write no blanks between noun and verb.
_EAST = (
    r"(?:答案|答え|答|解答|正解|정답|답)\**(?:[ \t]*[(（][^()（）\n]{1,40}[)）])?[ \t]*\**[ \t]*"
    r"(?:应该是|應該是|应是|應是|应为|應為|就是|等于|等於|是|为|為|は|은|는)?"
)
_MARK = r"[:：=→]"
_GAP = r"[ \t]*\**\n{0,2}[ \t]*"


def _compiled(rows: list[tuple[str, str, str]]) -> str:
    phrases = []
    for nouns, adjectives, verbs in rows:
        beside = rf"(?: (?:{adjectives}))?" if adjectives else ""
        said = rf" (?:{verbs})(?!\w)(?:[ \t]*:)?|" if verbs else ""
        phrases.append(rf"(?:{nouns}){beside}\**(?:{said}[ \t\xa0]*\**{_MARK}\**)")
    return rf"(?<!\w)(?:{'|'.join(phrases)}){_GAP}"


# Headings of a whole solution, too: they need a verb, or a number in the same line.
_HEADINGS = (
    r"(?<!\w)(?:lösung|ergebnis|solución|resultado|solution|résultat|soluzione|risultato|result)\**"
    r"(?: (?:ist|lautet|beträgt|es|est|è|é)\b|[ \t\xa0]*[:=：]\**)[ \t]*"
    r"(?=\**[$(]{0,2}[-−+\\$]?[\d(\\])"
)
_LATIN_PHRASE = lazy_pattern(rf"{_compiled(_LATIN)}|{_HEADINGS}", re.IGNORECASE)
_OTHER_PHRASE = lazy_pattern(
    rf"{_compiled(_OTHERS)}|(?<!\w)(?:उत्तर|जवाब) (?=[\d$\\(])"
    rf"|(?:{_EAST})(?:(?<=[是为為は은는等于於])|[ \t]*{_MARK}){_GAP}",
    re.IGNORECASE,
)
# Greek and Cyrillic letters are common in formulas, too; the rest are scripts.
_SCRIPT = lazy_pattern(
    r"[\u03b1-\u03ce]{4}|[\u0410-\u04ff]{2}|[\u0590-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
)
_WRONG = lazy_pattern(
    r"(?:falsch\w*|wrong|incorrecta?|mauvaise|fausse|errad\w|errat\w|sbagliat\w|неправильн\w*"
    r"|неверн\w*|ошибочн\w*|错误的?|錯誤的?|错的|不正|誤った|間違った|오|틀린|잘못된|गलत"
    r"|不是|并非|若|如果|假设|假設|possibl\w|wenn die|si la|se a|se la|если)[ \t]*\Z",
    re.IGNORECASE,
)
# What follows a number in its sentence: a verb, or a word that counts things.
_ENDING = lazy_pattern(
    r"[ \t]*(?:です|である|だ|[とに]なる|[とに]なります|입니다|이다|이에요|예요|है|हैं|होगा)\Z"
)
_COUNTERS = "[個个只隻人名本張张条件種种次支块塊颗棵位辆つ匹枚冊台元円]|개|명|마리|권|장|번|원"
_COUNTED = lazy_pattern(
    rf"(?<=[\d)$])[ \t]*(?:{_COUNTERS})[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]{{0,6}}\Z"
)


def without_ending(text: str, start: int, end: int) -> int:
    """The end of an answer without the verb or the counting word that follows it."""
    for ending in (_ENDING, _COUNTED):
        match = ending.search(text[start:end][-30:])
        if match:
            end -= len(match.group())
    return end


def last_label(text: str, start: int, end: int, english: bool) -> tuple[int, int] | None:
    """The (start, end) of the last phrase in another language.

    Latin scripts are only searched if no English phrase was found, as most replies have one.
    """
    pattern = _OTHER_PHRASE if not text.isascii() and _SCRIPT.search(text, start, end) else None
    for searched in (pattern, None if english else _LATIN_PHRASE):
        spans = [
            match.span() for match in (searched.finditer(text, start, end) if searched else ())
        ]
        for span in reversed(spans):
            if not _WRONG.search(text[max(start, span[0] - 16) : span[0]]):
                return span
    return None
