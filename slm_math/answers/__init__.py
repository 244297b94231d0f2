r"""Grade a reply: extract its final answer, compare it with the reference answer, give a reason.

The seven rules (each example runs as a test):

1. **Values are compared exactly.** Integers have no tolerance. A decimal equals an exact value only
   at full float precision (relative error below 1e-9). Unreduced fractions, mixed numbers, expanded
   and factored forms are equal by value.

   >>> (
   ...     equivalent(r"7\frac{3}{4}", "7.75"),
   ...     equivalent("6/8", r"\frac34"),
   ...     equivalent(r"\sqrt{8}", r"2\sqrt2"),
   ... )
   (True, True, True)
   >>> (
   ...     equivalent("72.00000000000001", "72"),
   ...     equivalent("0.333", r"\frac13"),
   ...     equivalent("10001", "10000"),
   ... )
   (True, False, False)

2. **Units, degree and currency signs may be dropped or added, but not exchanged.** 50% equals both
   50 and 0.5; 0.5 does not equal 50.

   >>> (
   ...     equivalent("5 cm", "5"),
   ...     equivalent(r"\$18", "18"),
   ...     equivalent("50%", "0.5"),
   ...     equivalent("50%", "50"),
   ... )
   (True, True, True, True)
   >>> (
   ...     equivalent("5 cm", "5 m"),
   ...     equivalent(r"5\text{ cm}", r"5\text{ cm}^2"),
   ...     equivalent("0.5", "50"),
   ... )
   (False, False, False)

3. **Bare lists and sets are complete and unordered; tuples, vectors and matrices are ordered;
   brackets matter.** An inequality equals the interval of its solutions.

   >>> equivalent("1, -2", r"\{-2, 1\}"), equivalent("[-2,7]", r"-2 \le x \le 7")
   (True, True)
   >>> equivalent("x < 1 or x > 2", r"(-\infty,1) \cup (2,\infty)")
   True
   >>> equivalent("1, 2", "1, 2, 3"), equivalent("(2,1)", "(1,2)"), equivalent("[1,2]", "(1,2)")
   (False, False, False)

4. **`x = 5` equals 5. An equation does not equal one of its sides, but it equals every non-zero
   multiple of itself.**

   >>> (
   ...     equivalent("x = 5", "5"),
   ...     equivalent("2x - y + 3 = 0", "y = 2x + 3"),
   ...     equivalent("f(x) = 2x", "2x"),
   ... )
   (True, True, True)
   >>> (
   ...     equivalent("y = 2x + 3", "2x + 3"),
   ...     equivalent("x = 5", "y = 5"),
   ...     equivalent("2 + 3 = 5", "5"),
   ... )
   (False, False, False)

5. **Text is compared without case and without** `\text{}`; (B) equals B.

   >>> (
   ...     equivalent("Even", r"\text{even}"),
   ...     equivalent("b", r"\text{(B)}"),
   ...     equivalent("not even", "even"),
   ... )
   (True, True, False)

6. **The last non-empty box counts.** Adjacent boxes form one list. Alternatives are wrong where the
   reference has one value. Text after the end of the turn, text in a next question that the model
   invented, and text that stands only in a thinking block are not the answer.

   >>> (
   ...     extract(r"\boxed{7}. Wait, no: \boxed{5} \boxed{}").value,
   ...     extract(r"\boxed{1}, \boxed{2}").value,
   ... )
   ('5', '1, 2')
   >>> (
   ...     grade(r"\boxed{3 \text{ or } 4}", "3").reason,
   ...     grade(r"<think>\boxed{5}</think> I am done.", "5").reason,
   ... )
   ('hedged', 'no answer')
   >>> extract("<answer>5</answer><|im_end|> Question: 3 + 4? The answer is 7.")
   Extracted(value='5', method='tag', span=(8, 9), hedged=False)

7. **Unevaluated arithmetic is not an answer.** Neither is an expression copied from the problem
   whose operation the reference has carried out. Fractions, powers and radicals are accepted.

   >>> (
   ...     grade(r"\boxed{17 \times 23}", "391").reason,
   ...     grade(r"\boxed{2^{10}}", "1024", "Compute $2^{10}$.").reason,
   ... )
   ('unevaluated', 'copied')
   >>> grade(r"\boxed{2^{10}}", "1024", "How many subsets has a set of ten?").reason
   'equal'

Matters of taste, each decided once:

- A name, an index or a decoration names a value; a product, a sum or a power does not.

  >>> equivalent(r"V_{\max} = 12", "12"), equivalent(r"\mu = 2", "2"), equivalent("2x = 6", "3")
  (True, True, False)

- An exact value may be followed by its approximation, which alone is not enough. A chain of equal
  numbers is an equation (rule 4).

  >>> equivalent(r"10\pi \approx 31.4", r"10\pi"), equivalent(r"10\pi \approx 30", r"10\pi")
  (True, False)
  >>> equivalent("31.4", r"10\pi"), equivalent(r"\frac{10}{4} = 2.5", "2.5")
  (False, False)

- The letter of an argument, the constant of integration and the integer of a family, if it is said
  to be one, may be called otherwise.

  >>> equivalent("f(t) = 3t", "f(x) = 3x"), equivalent("x^2 + c", "x^2 + C")
  (True, True)
  >>> equivalent(r"k\pi, k \in \mathbb{Z}", r"n\pi, n \in \mathbb{Z}"), equivalent(r"k\pi", r"n\pi")
  (True, False)

- A sign or code of a currency, the ending of an ordinal and the half of the day are units: they may
  be left out. Other units of the same quantity are not converted.

  >>> equivalent("Rs. 40", "40"), equivalent("21st", "21"), equivalent("3:30 p.m.", "3:30")
  (True, True, True)
  >>> equivalent(r"25 \text{ cents}", r"\$0.25"), equivalent("3:30 p.m.", "3:30 a.m.")
  (False, False)

- No group of thousands begins with 0, and a comma is a decimal comma only beside the same number
  with a point.

  >>> equivalent("0,125", "125"), equivalent("0,180", "0, 180"), equivalent("3,14", "3.14")
  (False, True, True)

- Values are read as programs print them, but no constructor is evaluated. Ratios are compared as
  they are written, dots stand for no digits, and text has no synonyms.

  >>> equivalent("1 + 2*I", "1+2i"), equivalent("Rational(1, 2)", "1/2"), equivalent("4:2", "2:1")
  (True, False, False)
  >>> equivalent("0.333...", r"\frac13"), equivalent("isosceles triangle", "isosceles")
  (False, False)

- A sentence after an answer phrase that has exactly one number states this number; a sentence
  without such a phrase states nothing.

  >>> extract("Answer: She has 12 apples left.").value, extract("She has 12 apples left.").value
  ('12 apples', None)
  >>> extract("答案：12").value, extract("A wrong answer is 5.").value
  ('12', None)

- A reply must convert the number that the problem asks to convert.

  >>> grade(r"\boxed{3/8}", "0.375", "Write 3/8 as a decimal.").reason
  'copied'

Multiple choice ("mc") compares letters, in any spelling, or the value of a choice. "num" allows a
tolerance:

>>> equivalent("option (b)", "B", "mc"), equivalent("15", "B", "mc", ["12 cm", "15 cm"])
(True, True)
>>> equivalent("A or B", "B", "mc")
False
>>> (
...     equivalent("3.14", r"\pi", "num", tolerance=0.01),
...     equivalent("202", "200", "num", tolerance="1%"),
... )
(True, True)

Nothing in an answer is ever executed. If the exact rules cannot decide, a worker process without
privileges, limited in time and memory, compares the two answers with an algebra system. If that
process cannot decide either, the answer counts as incorrect and its reason is one of `UNDECIDED`,
so that such answers can be reported separately.
"""

from slm_math.answers.decide import classes, equivalent
from slm_math.answers.decisions import Decision
from slm_math.answers.explain import explain
from slm_math.answers.extract import Extracted, extract, gold_answer
from slm_math.answers.grade import (
    Verdict,
    grade,
    grade_answer,
    grade_extracted,
    grade_reply,
    grader_version,
)
from slm_math.answers.hard import UNDECIDED
from slm_math.answers.readable import readable

# The old name of `grade_answer`: it works for one more version, as rewards of users import it.
judge = grade_answer

__all__ = [
    "UNDECIDED",
    "Decision",
    "Extracted",
    "Verdict",
    "classes",
    "equivalent",
    "explain",
    "extract",
    "gold_answer",
    "grade",
    "grade_answer",
    "grade_extracted",
    "grade_reply",
    "grader_version",
    "judge",
    "readable",
]
