// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// --report FILE: one page of HTML with its plots as SVG.

#include "runtime/src/BenchReport.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>

using namespace tercet;

static std::string escape(std::string_view text) {
  std::string result;
  for (char c : text)
    switch (c) {
    case '<':
      result += "&lt;";
      break;
    case '&':
      result += "&amp;";
      break;
    case '"':
      result += "&quot;";
      break;
    default:
      result += c;
    }
  return result;
}

//===----------------------------------------------------------------------===//
// Roofline
//===----------------------------------------------------------------------===//

namespace {
/// A logarithmic axis over whole powers of ten, in pixels.
struct Axis {
  double from, to; // pixels
  int low, high;   // powers of ten

  void include(double value) {
    low = std::min(low, int(std::floor(std::log10(value))));
    high = std::max(high, int(std::ceil(std::log10(value))));
  }
  double operator()(double value) const {
    return from + (to - from) * (std::log10(value) - low) / (high - low);
  }
};

struct Point {
  std::string label;
  double intensity, rate; // MACs per byte, MACs per second
  bool isDecode;
};

/// What the machine allows on some threads.
struct Roof {
  int threads;
  double read, dotPeak;
};
} // namespace

static std::string drawLine(double x1, double y1, double x2, double y2,
                            const char *style) {
  return format("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" "
                "class=\"%s\"/>\n",
                x1, y1, x2, y2, style);
}

static std::string drawText(double x, double y, const char *anchor,
                            const std::string &text) {
  return format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y,
                anchor) +
         escape(text) + "</text>\n";
}

static std::string count(int64_t number, const char *unit) {
  return format("%lld %s%s", (long long)number, unit, number == 1 ? "" : "s");
}

static std::string describe(const BenchRow &row) {
  return count(row.threads, "thread") + ", " + count(row.batch, "sequence");
}

static std::vector<Point> getPoints(const BenchResult &result) {
  std::vector<Point> points;
  for (const BenchRow &row : result.prefill)
    points.push_back(
        {"prefill, " + count(row.threads, "thread"),
         result.ternaryWeights * result.stepTokens / result.stepBytes,
         row.rate * result.ternaryWeights, false});
  for (const BenchRow &row : result.decode)
    points.push_back({"decode, " + describe(row),
                      result.ternaryWeights / row.work,
                      row.rate * result.ternaryWeights, true});
  std::erase_if(points, [](const Point &point) {
    return !(point.intensity > 0 && point.rate > 0);
  });
  return points;
}

static std::vector<Roof> getRoofs(const BenchResult &result) {
  std::vector<Roof> roofs;
  for (const BenchRow &row : result.prefill)
    for (const BenchRow &other : result.decode)
      if (other.threads == row.threads &&
          other.batch == result.decode[0].batch && row.limit > 0 &&
          other.limit > 0)
        roofs.push_back({row.threads, other.limit, row.limit});
  return roofs;
}

/// Multiply-accumulates per second over those per byte read: what the memory
/// allows is a slope, what the dot product does a ceiling.
static std::string drawRoofline(const BenchResult &result) {
  std::vector<Point> points = getPoints(result);
  std::vector<Roof> roofs = getRoofs(result);
  if (points.empty() || roofs.empty())
    return "";
  Axis x{60, 620, INT16_MAX, INT16_MIN}, y{330, 20, INT16_MAX, INT16_MIN};
  for (const Point &point : points)
    x.include(point.intensity), y.include(point.rate);
  for (const Roof &roof : roofs)
    x.include(roof.dotPeak / roof.read), y.include(roof.dotPeak);

  std::string svg = "<svg viewBox=\"0 0 640 370\" width=\"640\">\n";
  for (int power = x.low; power <= x.high; ++power) {
    double at = x(std::pow(10, power));
    svg +=
        drawLine(at, y.from, at, y.to, "grid") +
        drawText(at, y.from + 16, "middle", format("%g", std::pow(10, power)));
  }
  for (int power = y.low; power <= y.high; ++power) {
    double at = y(std::pow(10, power));
    svg += drawLine(x.from, at, x.to, at, "grid") +
           drawText(x.from - 6, at + 4, "end",
                    format("%g", std::pow(10, power - 9)));
  }
  svg += drawText(340, 364, "middle", "multiply-accumulates per byte read") +
         drawText(4, 12, "start", "GMAC/s");
  for (const Roof &roof : roofs) {
    double corner = roof.dotPeak / roof.read;
    double left =
        std::max(std::pow(10, x.low), std::pow(10, y.low) / roof.read);
    svg += drawLine(x(left), y(left * roof.read), x(corner), y(roof.dotPeak),
                    "roof") +
           drawLine(x(corner), y(roof.dotPeak), x.to, y(roof.dotPeak), "roof") +
           drawText(x.to, y(roof.dotPeak) - 4, "end",
                    count(roof.threads, "thread") +
                        format(": %.0f GMAC/s, %.1f GB/s", roof.dotPeak / 1e9,
                               roof.read / 1e9));
  }
  for (const Point &point : points)
    svg += format("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" class=\"%s\">",
                  x(point.intensity), y(point.rate),
                  point.isDecode ? "decode" : "prefill") +
           "<title>" + escape(point.label) +
           format(": %.1f GMAC/s</title></circle>\n", point.rate / 1e9);
  return svg + "</svg>\n";
}

//===----------------------------------------------------------------------===//
// Bars and tables
//===----------------------------------------------------------------------===//

namespace {
struct Bar {
  std::string label;
  double value;
  std::string text;
};
} // namespace

static std::string drawBars(const std::vector<Bar> &bars, const char *style) {
  double most = 0;
  for (const Bar &bar : bars)
    most = std::max(most, bar.value);
  std::string html = "<table class=\"bars\">\n";
  for (const Bar &bar : bars)
    html += "<tr><td>" + escape(bar.label) + "</td><td><div class=\"" + style +
            format("\" style=\"width:%.0fpx\"></div></td><td>",
                   most > 0 ? 300 * bar.value / most : 0) +
            escape(bar.text) + "</td></tr>\n";
  return html + "</table>\n";
}

static std::string writeRates(const BenchResult &result) {
  std::string html = "<table><tr><th></th><th>threads</th><th>sequences</th>"
                     "<th>tokens/s</th><th>spread</th><th>of the limit</th>"
                     "<th>limit</th></tr>\n";
  auto add = [&](const char *phase, const BenchRow &row, const char *unit) {
    html += format("<tr><td>%s</td><td>%d</td><td>%lld</td><td>%.1f</td>"
                   "<td>%.1f%%</td><td>%.1f%%</td><td>%.1f %s</td></tr>\n",
                   phase, row.threads, (long long)row.batch, row.rate,
                   100 * row.spread, 100 * row.fraction, row.limit / 1e9, unit);
  };
  for (const BenchRow &row : result.prefill)
    add("prefill", row, "GMAC/s");
  for (const BenchRow &row : result.decode)
    add("decode", row, "GB/s");
  return html + "</table>\n";
}

static std::string drawRates(const BenchResult &result) {
  std::vector<Bar> bars;
  for (const BenchRow &row : result.decode)
    bars.push_back(
        {describe(row), row.rate, format("%.1f tokens/s", row.rate)});
  return drawBars(bars, "decode");
}

/// Times of kernels that do the same, together, the longest first.
static std::string drawKernels(const BenchResult &result,
                               double KernelTime::*seconds, const char *style) {
  std::map<std::string_view, double> byOp;
  double all = 0;
  for (const KernelTime &kernel : result.kernels) {
    byOp[kernel.op] += kernel.*seconds;
    all += kernel.*seconds;
  }
  std::vector<Bar> bars;
  for (auto [op, time] : byOp)
    bars.push_back({std::string(op), time,
                    format("%.0f us, %.1f%%", 1e6 * time,
                           all > 0 ? 100 * time / all : 0)});
  std::sort(bars.begin(), bars.end(),
            [](const Bar &a, const Bar &b) { return a.value > b.value; });
  return drawBars(bars, style);
}

static std::string listLayers(const BenchResult &result) {
  std::string html =
      "<details><summary>Each kernel</summary>\n<table><tr>"
      "<th>layer</th><th>kernel</th><th>one token</th>" +
      format("<th>%lld tokens</th></tr>\n", (long long)result.stepTokens);
  for (const KernelTime &kernel : result.kernels)
    html += "<tr><td>" + escape(kernel.layer) + "</td><td>" +
            escape(kernel.op) +
            format("</td><td>%.1f us</td><td>%.1f us</td></tr>\n",
                   1e6 * kernel.decode, 1e6 * kernel.prefill);
  return html + "</table></details>\n";
}

//===----------------------------------------------------------------------===//
// The page
//===----------------------------------------------------------------------===//

static constexpr const char *Style =
    "body{font:14px sans-serif;color:#333;max-width:60em;margin:2em auto}"
    "td,th{padding:2px 10px;text-align:right}"
    "td:first-child,th:first-child{text-align:left}"
    ".bars td{text-align:left}.bars div{height:12px}"
    ".decode{fill:#47a;background:#47a}.prefill{fill:#c31;background:#c31}"
    ".grid{stroke:#ddd}.roof{stroke:#333}svg{font-size:12px}"
    ".noise{background:#fec;padding:8px}";

std::string tercet::formatHtml(const BenchResult &result) {
  char date[32];
  time_t now = time(nullptr);
  strftime(date, sizeof date, "%Y-%m-%d", localtime(&now));
  std::string html =
      "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\">"
      "<title>Speed of a compiled model</title>\n<style>" +
      std::string(Style) + "</style>\n<h1>Speed of a compiled model</h1>\n<p>" +
      escape(result.cpu) + ", target " + escape(result.target) + ", " + date +
      format(". Medians of %d rounds: a prompt of %lld tokens, then %lld "
             "generated, after %lld in the context. Loaded in %.3f s, peak "
             "memory %.0f MB.</p>\n",
             result.rounds, (long long)result.promptTokens,
             (long long)result.generatedTokens, (long long)result.depth,
             result.loadSeconds, result.peakRssInMB);
  if (std::string noise = result.noise(); !noise.empty())
    html += "<p class=\"noise\">" + escape(noise) + "</p>\n";
  html += writeRates(result) +
          "<p>The limit of a prompt is this target's dot product on registers, "
          "that of generation a plain read of the same bytes; both were "
          "measured in the same rounds.</p>\n<h2>Roofline</h2>\n" +
          drawRoofline(result) +
          "<p>Red: prompts, blue: generation. Ternary weights alone.</p>\n"
          "<h2>Tokens per second</h2>\n" +
          drawRates(result);
  if (!result.kernels.empty())
    html += "<h2>Where the time goes</h2>\n<p>A step of one token, " +
            count(result.decode.back().threads, "thread") + ":</p>\n" +
            drawKernels(result, &KernelTime::decode, "decode") +
            format("<p>A step of %lld tokens:</p>\n",
                   (long long)result.stepTokens) +
            drawKernels(result, &KernelTime::prefill, "prefill") +
            listLayers(result);
  return html + "</html>\n";
}
