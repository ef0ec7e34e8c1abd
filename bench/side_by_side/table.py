"""From samples to ratios: for each round Millrace against the better of Kafka's configurations, then the median of rounds."""
import statistics


def number(v):
    if v is None or isinstance(v, bool):
        return "-" if v is None else str(v)
    if v == 0:
        return "0"
    if abs(v) >= 1000:
        return f"{v:,.0f}"
    return f"{v:.3g}"


def compare(rows, samples):
    """One entry a row and metric: medians, ratios of rounds, marks."""
    out = []
    for row in rows:
        own = [s for s in samples if s["row"] == row.id]
        if not own:
            continue
        for key, title, larger in row.metrics:
            ratios, best = [], {}
            for r in sorted({s["round"] for s in own}):
                ours = [s["sample"].get(key) for s in own if s["round"] == r and s["system"] == "millrace"]
                theirs = [(s["sample"].get(key), s["system"]) for s in own
                          if s["round"] == r and s["system"] != "millrace" and s["sample"].get(key) is not None]
                if not theirs:
                    continue
                value, name = (max if larger else min)(theirs)
                best.setdefault(name, []).append(value)
                if ours and ours[0] is not None and value > 0:
                    ratios.append(ours[0] / value)
            mine = [s["sample"][key] for s in own if s["system"] == "millrace" and s["sample"].get(key) is not None]
            others = [v for values in best.values() for v in values]
            bound = [s["system"] for s in own if s["sample"].get("generator_bound")]
            out.append({"row": row.id, "title": row.title, "metric": title, "larger": larger, "target": row.target,
                        "millrace": statistics.median(mine) if mine else None, "kafka": statistics.median(others) if others else None,
                        "kafka_which": max(best, key=lambda n: len(best[n])) if best else "",
                        "ratio": statistics.median(ratios) if ratios else None, "low": min(ratios, default=None),
                        "high": max(ratios, default=None), "rounds": len(ratios), "bound": sorted(set(bound)),
                        "load": max((s["load_average"] for s in own), default=0)})
    return out


def text(entries):
    lines = [f"{'row':<12} {'metric':<26} {'millrace':>10} {'kafka':>10} {'ratio':>7} {'range':>13}  {'load':>5}  marks"]
    for e in entries:
        ratio = f"{e['ratio']:.2f}x" if e["ratio"] is not None else "-"
        spread = f"{e['low']:.2f}..{e['high']:.2f}" if e["ratio"] is not None else "-"
        marks = " ".join([*(["generator-bound: " + ",".join(e["bound"])] if e["bound"] else []), e["kafka_which"]])
        lines.append(f"{e['row']:<12} {e['metric']:<26} {number(e['millrace']):>10} {number(e['kafka']):>10} {ratio:>7} {spread:>13}  "
                     f"{e['load']:>5.1f}  {marks}")
    return "\n".join(lines)
