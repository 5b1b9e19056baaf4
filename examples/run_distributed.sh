#!/bin/bash
# Runs msrun so that Ctrl-C or a scheduler, such as Slurm or Kubernetes, stops the training in good order:
#
#     bash examples/run_distributed.sh --worker_num=2 --local_worker_num=2 examples/train_distributed.py
#
# msrun passes no signal on to its workers. This sends them SIGTERM for the SIGTERM or SIGINT that it gets, again every
# second, because a worker ignores it until Model.train has begun. GracefulStop must be among the callbacks; it saves
# the state on SIGUSR1 too. With several machines it is started on each, and a signal to one of them stops all.
#
# The exit status is msrun's: 0 where every worker ended with 0, else 1. A run that was told to stop and did so in good
# order gives 128 + the signal's number instead of 0, so that a scheduler starts it again; it continues where it was.

stopped_by=
trap 'stopped_by=15' TERM
trap 'stopped_by=2' INT
( trap '' TERM INT USR1; exec setsid msrun --join=True "$@" ) &
msrun=$!
trap 'pkill -USR1 -P $msrun' USR1

while kill -0 $msrun 2>/dev/null; do
  [ -z "$stopped_by" ] || pkill -TERM -P $msrun # the scheduler process of MindSpore among them ignores it
  sleep 1 &
  wait $!
done
wait $msrun
status=$?
[ $status -ne 0 ] || [ -z "$stopped_by" ] || status=$((128 + stopped_by))
exit $status
