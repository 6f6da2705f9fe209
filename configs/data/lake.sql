-- One row per brand, market, week and channel, in euros. Weeks start on Mondays; incomplete ones are left out.
WITH kpi AS (
  SELECT brand, market, week_of(day) AS date, sum(revenue / per_euro) AS kpi
  FROM sales JOIN rates USING (currency)
  GROUP BY ALL HAVING count(*) = 7
),
spent AS (
  SELECT market, channel, week_of(day) AS date, cost / per_euro AS spend
  FROM campaigns JOIN taxonomy ON regexp_matches(campaign, pattern) JOIN rates USING (currency)
  UNION ALL
  -- TV is booked by weeks from Sunday, in dollars: a seventh on each day.
  SELECT market, 'tv', week_of(day), cost / 7 / per_euro
  FROM (SELECT market, cost, each_day(week_start, week_start + 6) AS day FROM tv), rates
  WHERE rates.currency = 'USD'
),
by_week AS (SELECT market, channel, date, sum(spend) AS spend FROM spent GROUP BY ALL)
SELECT brand, market, date, channel, kpi, coalesce(spend, 0) AS spend, price
FROM kpi CROSS JOIN (SELECT DISTINCT channel FROM by_week)
LEFT JOIN by_week USING (market, channel, date)
JOIN prices USING (market)
WHERE date BETWEEN first AND last
ORDER BY ALL
