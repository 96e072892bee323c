// The activation memory: two copies, so that four words are read a cycle; each copy in 12 banks of two-port UltraRAM.
//
// Inputs 0 and 2 of the array read copy 0 on ports A and B, inputs 1 and 3 read copy 1. A word is written to both copies,
// when a port of its bank is free in both: the array never waits for it. Each column of banks takes a word a cycle, from
// any of the streams. Keys and values are fetched with what is left: from the copy whose reads during attention have the
// other parity.
module activation_memory #(
    parameter int unsigned TOKENS     = bertile_pkg::WordTokens,
    parameter int unsigned BANK_WORDS = bertile_pkg::CapacityActivationBankWords
) (
    input logic clk,
    input logic reset,

    input logic read_valid,
    input logic [bertile_pkg::ArrayInputs-1:0][15:0] read_address,
    output logic [bertile_pkg::ArrayInputs-1:0][TOKENS-1:0][7:0] read_data,  // six cycles later
    output logic read_outside,  // an address was past the memory; the next cycle

    // Words of each stream. Banks as bank_decoder tells, one bit, and the column it is in; none past the memory.
    input logic [engine_pkg::WordStreams-1:0] write_valid,
    input logic [engine_pkg::WordStreams-1:0][engine_pkg::Columns-1:0] write_columns,
    input logic [engine_pkg::WordStreams-1:0][bertile_pkg::CapacityActivationBanks-1:0] write_banks,
    input logic [engine_pkg::WordStreams-1:0][$clog2(BANK_WORDS)-1:0] write_row,
    input logic [engine_pkg::WordStreams-1:0][TOKENS-1:0][7:0] write_data,
    output logic [engine_pkg::WordStreams-1:0] write_grant,  // in the same cycle

    input logic fetch_valid,
    input logic [15:0] fetch_address,
    output logic fetch_ready,
    output logic fetch_outside,  // an address was past the memory
    output logic [TOKENS-1:0][7:0] fetch_data,  // in the order of the requests
    output logic fetch_data_valid
);

  localparam int unsigned Inputs = bertile_pkg::ArrayInputs;
  localparam int unsigned Banks = bertile_pkg::CapacityActivationBanks;
  localparam int unsigned Streams = engine_pkg::WordStreams;
  localparam int unsigned Columns = engine_pkg::Columns;
  localparam int unsigned RowBits = $clog2(BANK_WORDS);
  localparam int unsigned Width = TOKENS * 8;
  localparam int unsigned PortLatency = 3;  // from here to the data of a port: its register, the UltraRAM

  // Reads, decoded. What they leave of a bank is known in the same cycle.
  logic [Inputs-1:0][Banks-1:0] decoded_banks, read_banks;
  logic [Inputs-1:0][RowBits-1:0] decoded_rows, read_rows;
  logic [Banks-1:0] decoded_full, full;  // both ports of a copy are read
  for (genvar i = 0; i < Inputs; i++) begin : g_decode
    bank_decoder #(
        .BANK_WORDS(BANK_WORDS)
    ) decoder (
        .address(read_address[i]),
        .banks(decoded_banks[i]),
        .row(decoded_rows[i])
    );
  end
  always_comb begin
    decoded_full = read_valid ? (decoded_banks[0] & decoded_banks[2]) | (decoded_banks[1] & decoded_banks[3]) : '0;
  end
  always_ff @(posedge clk) begin
    read_outside <= 1'b0;
    for (int i = 0; i < Inputs; i++) begin
      read_banks[i] <= read_valid ? decoded_banks[i] : '0;
      if (read_valid && decoded_banks[i] == '0) read_outside <= 1'b1;
    end
    read_rows <= decoded_rows;
    full <= decoded_full;
  end

  // Requests for keys and values, decoded behind a register slice.
  logic [Banks-1:0] requested_banks, fetch_banks;
  logic [RowBits-1:0] requested_row, fetch_row;
  logic fetch_waits, fetch_grant;
  bank_decoder #(
      .BANK_WORDS(BANK_WORDS)
  ) fetch_decoder (
      .address(fetch_address),
      .banks(requested_banks),
      .row(requested_row)
  );
  axis_register #(
      .WIDTH(Banks + RowBits)
  ) fetch_slice (
      .clk,
      .reset,
      .in_data({requested_banks, requested_row}),
      .in_valid(fetch_valid),
      .in_ready(fetch_ready),
      .out_data({fetch_banks, fetch_row}),
      .out_valid(fetch_waits),
      .out_ready(fetch_grant)
  );

  // The word of each column, and the bank it goes to.
  logic [Columns-1:0][Streams-1:0] chosen;
  logic [Columns-1:0][RowBits-1:0] column_row;
  logic [Columns-1:0][Width-1:0] column_data, column_data_held;
  logic [Banks-1:0] writes, offered;  // offered: a word is for this bank, whether it is its turn or not
  write_arbiter arbiter (
      .clk,
      .reset,
      .valid(write_valid),
      .columns(write_columns),
      .banks(write_banks),
      .full,
      .grant(write_grant),
      .chosen
  );
  always_comb begin
    for (int c = 0; c < Columns; c++) begin
      column_row[c]  = write_row[Streams-1];
      column_data[c] = write_data[Streams-1];
      for (int s = 0; s < Streams - 1; s++) begin
        if (chosen[c][s]) begin
          column_row[c]  = write_row[s];
          column_data[c] = write_data[s];
        end
      end
    end
    for (int b = 0; b < Banks; b++) begin
      writes[b]  = 1'b0;
      offered[b] = 1'b0;
      for (int s = 0; s < Streams; s++) begin
        if (chosen[b%Columns][s] && write_banks[s][b]) writes[b] = !full[b];
        if (write_valid[s] && write_banks[s][b]) offered[b] = 1'b1;
      end
    end
  end

  // Even banks are fetched from copy 1, odd ones from copy 0. Not where port A may be wanted for a word.
  logic [1:0][Banks-1:0] offered_on_a;  // port B is read
  logic [Banks-1:0] fetch_blocked;
  always_comb begin
    for (int c = 0; c < 2; c++) offered_on_a[c] = offered & read_banks[c+2];
    for (int b = 0; b < Banks; b++) begin
      fetch_blocked[b] = fetch_banks[b] && (read_banks[1-b%2][b] || offered_on_a[1-b%2][b]);
    end
    fetch_grant = fetch_waits && fetch_blocked == '0;
  end

  // The banks, their ports behind a register.
  logic [1:0][Banks-1:0][Width-1:0] a_data, b_data;
  always_ff @(posedge clk) column_data_held <= column_data;
  for (genvar c = 0; c < 2; c++) begin : g_copy
    for (genvar b = 0; b < Banks; b++) begin : g_bank
      logic a_enable, a_write, b_enable, b_write;
      logic [RowBits-1:0] a_row, b_row;
      always_ff @(posedge clk) begin
        a_write  <= writes[b] && read_banks[c+2][b];
        b_write  <= writes[b] && !read_banks[c+2][b];
        a_enable <= read_banks[c][b] || offered_on_a[c][b] || (b % 2 != c && fetch_waits && fetch_banks[b]);
        b_enable <= read_banks[c+2][b] || offered[b];
        a_row    <= read_banks[c][b] ? read_rows[c] : offered_on_a[c][b] ? column_row[b%Columns] : fetch_row;
        b_row    <= read_banks[c+2][b] ? read_rows[c+2] : column_row[b%Columns];
      end
      uram #(
          .WIDTH(Width),
          .WORDS(BANK_WORDS)
      ) memory (
          .clk,
          .a_enable,
          .a_write,
          .a_address(a_row),
          .a_write_data(column_data_held[b%Columns]),
          .a_read_data(a_data[c][b]),
          .b_enable,
          .b_write,
          .b_address(b_row),
          .b_write_data(column_data_held[b%Columns]),
          .b_read_data(b_data[c][b])
      );
    end
  end

  // The words, selected as their addresses asked.
  for (genvar i = 0; i < Inputs; i++) begin : g_read
    logic [Banks-1:0] banks;
    delay #(
        .WIDTH (Banks),
        .CYCLES(PortLatency)
    ) delay_banks (
        .clk,
        .in_data (read_banks[i]),
        .out_data(banks)
    );
    bank_selector #(
        .WIDTH(Width)
    ) selector (
        .clk,
        .data(i < 2 ? a_data[i%2] : b_data[i%2]),
        .banks,
        .selected(read_data[i])
    );
  end

  logic [Banks-1:0] fetched_banks;
  logic [Banks-1:0][Width-1:0] fetched;
  delay #(
      .WIDTH (Banks),
      .CYCLES(PortLatency)
  ) delay_fetch_banks (
      .clk,
      .in_data (fetch_banks),
      .out_data(fetched_banks)
  );
  delay #(
      .WIDTH (1),
      .CYCLES(PortLatency + 2)
  ) delay_fetch_grant (
      .clk,
      .in_data (fetch_grant),
      .out_data(fetch_data_valid)
  );
  always_comb begin
    for (int b = 0; b < Banks; b++) fetched[b] = a_data[1-b%2][b];
  end
  bank_selector #(
      .WIDTH(Width)
  ) fetch_selector (
      .clk,
      .data(fetched),
      .banks(fetched_banks),
      .selected(fetch_data)
  );
  always_ff @(posedge clk) fetch_outside <= fetch_grant && fetch_banks == '0;

`ifndef SYNTHESIS
  always_ff @(posedge clk) begin
    if (!reset) begin
      for (int s = 0; s < Streams; s++) begin
        if (write_valid[s] && write_grant[s]) begin
          assert ((write_banks[s] & ~writes) == '0) else $error("activation_memory: a granted word was not written");
        end
      end
    end
  end
`endif

endmodule
