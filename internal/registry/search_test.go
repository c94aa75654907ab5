package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSearch(t *testing.T) {
	hub := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.URL.Path != "/v2/search/repositories/" || q.Get("query") != "de bian" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if q.Get("page") == "1" && q.Get("page_size") == "100" {
			fmt.Fprint(w, `{"count":130,"next":"more","results":[`+strings.Repeat(`{"repo_name":"x/y"},`, 99)+`{"repo_name":"x/z"}]}`)
			return
		}
		fmt.Fprint(w, `{"count":2,"next":"","results":[
			{"repo_name":"library/debian","short_description":"Debian\n is a\tLinux","star_count":5000,"pull_count":3000000000,"is_official":true},
			{"repo_name":"bitnami/debian","short_description":"","star_count":1,"pull_count":2,"is_official":false}]}`)
	}))
	defer hub.Close()
	ctx, there := context.Background(), dialing(hub.Listener.Addr().String(), true)
	got, err := Search(ctx, SearchRequest{Query: "de bian", Transport: there})
	if err != nil {
		t.Fatal(err)
	}
	want := []SearchResult{
		{Name: "debian", Description: "Debian is a Linux", Stars: 5000, Pulls: 3_000_000_000, Official: true},
		{Name: "bitnami/debian", Stars: 1, Pulls: 2},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for limit, want := range map[int]int{1: 1, 100: 100, 101: 101, 500: 102} {
		got, err := Search(ctx, SearchRequest{Query: "de bian", Transport: there, Limit: limit})
		if err != nil || len(got) != want {
			t.Errorf("limit %d: %d results, %v", limit, len(got), err)
		}
	}
	e := new(Error)
	if _, err := Search(ctx, SearchRequest{Query: "other", Transport: there}); !errors.As(err, &e) || e.Kind != NotFound {
		t.Errorf("a 404: %v", err)
	}
	if _, err := Search(ctx, SearchRequest{Query: " ", Transport: there}); err == nil {
		t.Error("an empty query is accepted")
	}
	if _, err := Search(ctx, SearchRequest{Query: "x", Transport: dialing(closedPort(t), true)}); !errors.As(err, &e) || e.Kind != Refused || e.Host != "hub.docker.com" {
		t.Errorf("nobody there: %v", err)
	}
}
