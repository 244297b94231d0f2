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
from slm_math.answers.decision import UNDECIDED, Decision
from slm_math.answers.explain import explain
from slm_math.answers.extract import Extracted, extract, gold_answer
from slm_math.answers.grade import (
    Verdict,
    grade,
    grade_answer,
    grade_extracted,
    grader_version,
)
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
    "grader_version",
    "judge",
    "readable",
]
