"""Submits one order through a running trueup and follows it to its end.

    trueup demo                          # in another terminal
    python examples/first_order.py BUY AAPL 10

The client order id makes it safe to run again after an answer was lost: the same id never becomes a second order.
"""

from __future__ import annotations

import argparse
import time
import uuid

import httpx


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", nargs="?", default="BUY")
    parser.add_argument("symbol", nargs="?", default="AAPL")
    parser.add_argument("quantity", nargs="?", default="10")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to follow it")
    args = parser.parse_args()

    order = {
        "symbol": args.symbol,
        "side": args.side,
        "quantity": args.quantity,  # text, so that no digit is lost on the way
        "type": "MARKET",
        "client_order_id": f"first-{uuid.uuid4()}",
    }
    with httpx.Client(base_url=args.url, timeout=10.0) as api:
        answer = api.post("/api/orders", json=order)
        if answer.is_error:
            told = answer.json()["error"]
            raise SystemExit(f"not submitted: {told['message']} ({told['code']})")
        row = answer.json()
        print(f"{row['id']}: {row['status']} ({row['detail']})")

        deadline = time.monotonic() + args.seconds
        while not row["terminal"] and time.monotonic() < deadline:
            time.sleep(0.2)
            fresh = api.get(f"/api/orders/{row['id']}").json()["order"]
            if (fresh["detail"], fresh["filled_quantity"]) != (row["detail"], row["filled_quantity"]):
                print(
                    f"{fresh['id']}: {fresh['status']} ({fresh['detail']}), "
                    f"{fresh['filled_quantity']} of {fresh['quantity']} filled, learned by {fresh['source']}"
                )
            row = fresh

        print("its story:")
        for line in api.get(f"/api/orders/{row['id']}").json()["timeline"]:
            print(f"  {line['offset']:>6}  {line['event']:<20} by {line['source']:<10} {line['status_after']}")


if __name__ == "__main__":
    main()
