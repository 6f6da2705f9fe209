#!/bin/sh
# A fleet every night, with cron: 0 2 * * * /srv/mmm/night.sh
# A repeat resumes the run of its day, and there is none where it would not help (exit codes 1, 2, 3).
cd "${MMM:-/srv/mmm}" || exit 2
day=$(date -u +%F)
[ -e runs/latest.json ] && base=run.base=runs    # the first night has none
for attempt in 1 2 3 4 5; do
    mixfleet fit --config-dir my data=acme run.root=runs run.id="$day" ${base:+"$base"} \
        run.log=night.jsonl --fail-under 0.95 --json >>night.log 2>&1
    code=$?
    case $code in
        0) mixfleet prune runs --keep 30d --delete >>night.log 2>&1; exit ;;
        1 | 2 | 3) break ;;
    esac
    sleep "${PAUSE:-600}"
done
echo "mixfleet ended with $code: see $PWD/night.log" >&2    # cron mails it
exit "$code"
