// The activation memory: two copies, so that four words are read a cycle; each copy in 12 banks of two-port UltraRAM.
//
// Four neighbouring addresses lie in four banks. Inputs 0 and 2 of the array read copy 0 on ports A and B, inputs 1 and 3
// read copy 1. A word is written to both copies, when a port of its bank is free in both: the array never waits for it.
// Keys and values are fetched with what is left: from the copy whose reads during attention have the other parity.
module activation_memory #(
    parameter int unsigned TOKENS     = bertile_pkg::WordTokens,
    parameter int unsigned BANK_WORDS = bertile_pkg::CapacityActivationBankWords
) (
    input logic clk,

    input logic read_valid,
    input logic [bertile_pkg::ArrayInputs-1:0][15:0] read_address,
    output logic [bertile_pkg::ArrayInputs-1:0][TOKENS-1:0][7:0] read_data,  // ReadLatency cycles later
    output logic [bertile_pkg::ArrayInputs-1:0] read_outside,  // the address is past the memory; in the same cycle

    input logic write_valid,
    input logic [15:0] write_address,
    input logic [TOKENS-1:0][7:0] write_data,
    output logic write_grant,  // in the same cycle; an address past the memory is granted and dropped
    output logic write_outside,

    input logic fetch_valid,
    input logic [15:0] fetch_address,
    output logic fetch_grant,  // in the same cycle
    output logic fetch_outside,
    output logic [TOKENS-1:0][7:0] fetch_data,  // ReadLatency cycles after the grant
    output logic fetch_data_valid
);

  localparam int unsigned Inputs = bertile_pkg::ArrayInputs;
  localparam int unsigned Interleave = 4;
  localparam int unsigned Regions = bertile_pkg::CapacityActivationBanks / Interleave;
  localparam int unsigned RowBits = $clog2(BANK_WORDS);
  localparam int unsigned RegionBits = 14 - RowBits;
  localparam int unsigned Width = TOKENS * 8;
  localparam int unsigned ReadLatency = 5;

  // Bank (low) and region (high) of an address, and its row in the bank.
  function automatic logic [1:0] bank_of(input logic [15:0] address);
    bank_of = address[1:0];
  endfunction
  function automatic logic [RegionBits-1:0] region_of(input logic [15:0] address);
    region_of = address[15:2+RowBits];
  endfunction
  function automatic logic [RowBits-1:0] row_of(input logic [15:0] address);
    row_of = address[2+:RowBits];
  endfunction

  function automatic logic outside(input logic [15:0] address);
    outside = region_of(address) >= RegionBits'(Regions);
  endfunction

  // Who wants which bank.
  logic [Regions-1:0][Interleave-1:0][Inputs-1:0] reads;
  logic [Regions-1:0][Interleave-1:0] writes, fetches, write_blocked, fetch_blocked;
  logic [1:0][Regions-1:0][Interleave-1:0] write_on_a;  // port B is read

  always_comb begin
    for (int r = 0; r < Regions; r++) begin
      for (int b = 0; b < Interleave; b++) begin
        for (int i = 0; i < Inputs; i++) begin
          reads[r][b][i] = read_valid && region_of(read_address[i]) == RegionBits'(r) &&
              bank_of(read_address[i]) == 2'(b);
        end
        writes[r][b] = write_valid && region_of(write_address) == RegionBits'(r) && bank_of(write_address) == 2'(b);
        fetches[r][b] = fetch_valid && region_of(fetch_address) == RegionBits'(r) && bank_of(fetch_address) == 2'(b);
        write_blocked[r][b] = writes[r][b] && ((reads[r][b][0] && reads[r][b][2]) || (reads[r][b][1] && reads[r][b][3]));
        for (int c = 0; c < 2; c++) write_on_a[c][r][b] = writes[r][b] && reads[r][b][2+c];
        // Even banks are fetched from copy 1, odd ones from copy 0.
        fetch_blocked[r][b] = fetches[r][b] && (reads[r][b][1-b%2] || write_on_a[1-b%2][r][b]);
      end
    end
    for (int i = 0; i < Inputs; i++) read_outside[i] = read_valid && outside(read_address[i]);
    write_grant = write_valid && write_blocked == '0;
    write_outside = write_valid && outside(write_address);
    fetch_grant = fetch_valid && fetch_blocked == '0;
    fetch_outside = fetch_valid && outside(fetch_address);
  end

  logic [Width-1:0] write_data_held;
  always_ff @(posedge clk) write_data_held <= write_data;

  // The banks, their ports behind a register.
  logic [1:0][Regions-1:0][Interleave-1:0][Width-1:0] a_data, b_data;
  for (genvar c = 0; c < 2; c++) begin : g_copy
    for (genvar r = 0; r < Regions; r++) begin : g_region
      for (genvar b = 0; b < Interleave; b++) begin : g_bank
        logic a_enable, a_write, b_enable, b_write;
        logic [RowBits-1:0] a_row, b_row;
        always_ff @(posedge clk) begin
          a_write <= write_grant && write_on_a[c][r][b];
          b_write <= write_grant && writes[r][b] && !write_on_a[c][r][b];
          a_enable <= reads[r][b][c] || (write_grant && write_on_a[c][r][b]) || (b % 2 != c && fetches[r][b]);
          b_enable <= reads[r][b][c+2] || (write_grant && writes[r][b]);
          a_row <= reads[r][b][c] ? row_of(read_address[c]) : write_on_a[c][r][b] ? row_of(write_address) :
              row_of(fetch_address);
          b_row <= reads[r][b][c+2] ? row_of(read_address[c+2]) : row_of(write_address);
        end
        uram #(
            .WIDTH(Width),
            .WORDS(BANK_WORDS)
        ) memory (
            .clk,
            .a_enable,
            .a_write,
            .a_address(a_row),
            .a_write_data(write_data_held),
            .a_read_data(a_data[c][r][b]),
            .b_enable,
            .b_write,
            .b_address(b_row),
            .b_write_data(write_data_held),
            .b_read_data(b_data[c][r][b])
        );
      end
    end
  end

  // Read data, selected by the address that was asked three cycles ago.
  for (genvar i = 0; i < Inputs; i++) begin : g_read
    logic [1:0] bank;
    logic [RegionBits-1:0] region;
    delay #(
        .WIDTH (2 + RegionBits),
        .CYCLES(ReadLatency - 2)
    ) address (
        .clk,
        .in_data ({bank_of(read_address[i]), region_of(read_address[i])}),
        .out_data({bank, region})
    );
    bank_selector #(
        .WIDTH(Width),
        .REGIONS(Regions),
        .REGION_BITS(RegionBits)
    ) selector (
        .clk,
        .data(i < 2 ? a_data[i%2] : b_data[i%2]),
        .bank,
        .region,
        .selected(read_data[i])
    );
  end

  logic [1:0] fetch_bank;
  logic [RegionBits-1:0] fetch_region;
  logic [Regions-1:0][Interleave-1:0][Width-1:0] fetch_banks;
  delay #(
      .WIDTH (2 + RegionBits),
      .CYCLES(ReadLatency - 2)
  ) delay_fetch_address (
      .clk,
      .in_data ({bank_of(fetch_address), region_of(fetch_address)}),
      .out_data({fetch_bank, fetch_region})
  );
  delay #(
      .WIDTH (1),
      .CYCLES(ReadLatency)
  ) delay_fetch_grant (
      .clk,
      .in_data (fetch_grant),
      .out_data(fetch_data_valid)
  );
  always_comb begin
    for (int r = 0; r < Regions; r++) begin
      for (int b = 0; b < Interleave; b++) fetch_banks[r][b] = a_data[1-b%2][r][b];
    end
  end
  bank_selector #(
      .WIDTH(Width),
      .REGIONS(Regions),
      .REGION_BITS(RegionBits)
  ) fetch_selector (
      .clk,
      .data(fetch_banks),
      .bank(fetch_bank),
      .region(fetch_region),
      .selected(fetch_data)
  );

endmodule
