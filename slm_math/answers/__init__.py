r"""From a reply to a verdict: find the final answer, compare it with the reference, say why.

The rules, one to seven (each line runs as a test):

1. **Values are compared exactly.** Integers have no tolerance; a decimal is an exact value only at
   full float precision (relative error below 1e-9). Unreduced fractions, mixed numbers, expanded
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

2. **Units, degree and currency signs may be dropped or added, not exchanged.** 50% is 50 and 0.5;
   0.5 is not 50.

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

3. **Bare lists and sets are unordered and complete; tuples, vectors and matrices are ordered;
   brackets matter.** An interval answers an inequality.

   >>> equivalent("1, -2", r"\{-2, 1\}"), equivalent("[-2,7]", r"-2 \le x \le 7")
   (True, True)
   >>> equivalent("x < 1 or x > 2", r"(-\infty,1) \cup (2,\infty)")
   True
   >>> equivalent("1, 2", "1, 2, 3"), equivalent("(2,1)", "(1,2)"), equivalent("[1,2]", "(1,2)")
   (False, False, False)

4. **x = 5 is 5; an equation is not one of its sides, but any non-zero multiple of itself.**

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

5. **Text ignores case and** `\text{}`; (B) is B.

   >>> (
   ...     equivalent("Even", r"\text{even}"),
   ...     equivalent("b", r"\text{(B)}"),
   ...     equivalent("not even", "even"),
   ... )
   (True, True, False)

6. **The last non-empty box counts**, adjacent boxes form one list, alternatives are wrong for one
   value; what follows the end of the turn, stands in an invented next question or only in a
   thinking block is not the answer.

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

7. **Arithmetic left undone is not an answer**, nor is an expression copied from the problem whose
   operation the reference has carried out. Fractions, powers and radicals stand.

   >>> (
   ...     grade(r"\boxed{17 \times 23}", "391").reason,
   ...     grade(r"\boxed{2^{10}}", "1024", "Compute $2^{10}$.").reason,
   ... )
   ('unevaluated', 'copied')
   >>> grade(r"\boxed{2^{10}}", "1024", "How many subsets has a set of ten?").reason
   'equal'

Multiple choice ("mc") compares letters, in any spelling, or the value of a choice; "num" allows a
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

Nothing in an answer is ever executed. What the exact rules here cannot settle is asked of a worker
process without rights, limited in time and memory; an answer that it cannot settle either is
`UNDECIDED`: not correct, and counted.
"""

from slm_math.answers.decide import classes, equivalent
from slm_math.answers.equivalence import UNDECIDED, Decision
from slm_math.answers.explain import explain
from slm_math.answers.extract import Extracted, extract, gold_answer
from slm_math.answers.grade import Verdict, grade, grader_version, judge, judged
from slm_math.answers.readable import readable

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
    "grader_version",
    "judge",
    "judged",
    "readable",
]
