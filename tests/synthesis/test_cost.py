"""Prices, sums, budgets."""

import pytest

from slm_math.synthesis.cost import Budget, Price, Spending, Spent


def test_a_price_is_per_million_tokens():
    assert Price(0.2, 0.5).of(1_000_000, 2_000_000) == pytest.approx(1.2)
    assert Price(3, 15).of(1000, 200) == pytest.approx(0.006)


@pytest.mark.parametrize("bad", [{"input": -1}, {"output": float("nan")}, {"input": "1"}])
def test_a_price_is_a_number(bad):
    with pytest.raises(ValueError, match=f"price.{next(iter(bad))}"):
        Price(**bad)


def test_what_roles_spent_adds_up():
    spending = Spending()
    spending.add("primary", Spent(1, 100, 20, 0.5))
    spending.add("backup", Spent(2, 1, 2, 0.25, estimated=1))
    spending.add("primary", Spent(1, 10, 2, 0.125))
    assert spending.of("primary") == Spent(2, 110, 22, 0.625)
    assert spending.of("nobody") == Spent()
    assert spending.total == Spent(4, 111, 24, 0.875, 1)
    assert spending.total.tokens == 135
    assert list(spending.roles) == ["primary", "backup"]


@pytest.mark.parametrize(
    ("budget", "spent", "is_spent"),
    [
        (Budget(), Spent(10**6, 10**9, 10**9, 1e6), False),
        (Budget(usd=1), Spent(usd=0.999), False),
        (Budget(usd=1), Spent(usd=1.0), True),
        (Budget(tokens=100), Spent(prompt_tokens=60, completion_tokens=39), False),
        (Budget(tokens=100), Spent(prompt_tokens=60, completion_tokens=40), True),
        (Budget(usd=5, tokens=100), Spent(prompt_tokens=101), True),
        (Budget(usd=0), Spent(), True),
    ],
)
def test_a_budget_is_spent_when_nothing_is_left(budget, spent, is_spent):
    assert budget.is_spent(spent) == is_spent


@pytest.mark.parametrize("bad", [{"usd": -1}, {"tokens": 1.5}, {"tokens": -1}])
def test_a_budget_is_an_amount(bad):
    with pytest.raises(ValueError, match=f"budget.{next(iter(bad))}"):
        Budget(**bad)
